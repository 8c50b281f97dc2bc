//! What soft LUNs and their ports may be called: names of files, and nothing but names.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The name of a soft LUN or of a port: 1 to 64 letters, digits, dots, dashes and underscores of ASCII,
/// the first one no dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// What is no name of a soft LUN or a port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a name has 1 to 64 letters, digits, dots, dashes and underscores, and does not begin with a dot"
)]
pub struct NameError;

impl Name {
    const MAX_LENGTH: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let fits = (1..=Self::MAX_LENGTH).contains(&text.len());
        match fits && !text.starts_with('.') && text.bytes().all(is_allowed) {
            true => Ok(Name(text.into())),
            false => Err(NameError),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        let long = "a".repeat(64);
        for text in ["a", "node-1", "shared_0.old", &long] {
            assert_eq!(
                text.parse::<Name>().map(|name| name.to_string()),
                Ok(text.into())
            );
        }
        let longer = "a".repeat(65);
        for text in [
            "", ".", "..", ".a", "a/b", "/", "a b", "a\0", "ä", "a\n", &longer,
        ] {
            assert_eq!(text.parse::<Name>(), Err(NameError), "{text:?}");
        }
    }
}
