//! The lists of `deny.toml` that are checked.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Allowed licenses.
    pub(super) licenses: Vec<String>,
    /// Versions that are not counted as duplicates: `name@version`.
    pub(super) skipped: Vec<String>,
    /// Allowed registries.
    pub(super) registries: Vec<String>,
}

impl Rules {
    pub(super) fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
        Self::parse(&fs::read_to_string(path).context("cannot read deny.toml")?)
    }

    fn parse(text: &str) -> Result<Self> {
        let list = |section, key| {
            list(text, section, key).with_context(|| format!("deny.toml has no {section} {key}"))
        };
        Ok(Self {
            licenses: list("[licenses]", "allow")?,
            skipped: list("[bans]", "skip")?,
            registries: list("[sources]", "allow-registry")?,
        })
    }
}

/// Parses a list of strings with one string a line. It supports the subset of TOML that the file
/// uses, and returns `None` for anything else.
fn list(text: &str, section: &str, key: &str) -> Option<Vec<String>> {
    let first = format!("{key} = [");
    let mut lines = text.lines().skip_while(|line| *line != section).skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .find(|line| *line == first)?;
    let mut texts = Vec::new();
    for line in lines.map(str::trim) {
        match line
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix("\","))
        {
            Some(text) => texts.push(text.to_owned()),
            None if line.starts_with('#') => {}
            None => return (line == "]").then_some(texts),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_found_in_their_sections() {
        let text = "[licenses]\nallow = [\n    # Why.\n    \"MIT\",\n]\n[bans]\nskip = [\n]\n\
            [sources]\nunknown = \"deny\"\nallow-registry = [\n    \"r\",\n]\n";
        let rules = Rules::parse(text).unwrap();
        assert_eq!(
            (rules.licenses, rules.registries),
            (vec!["MIT".into()], vec!["r".into()])
        );
        assert!(rules.skipped.is_empty());
    }

    #[test]
    fn unsupported_syntax_is_rejected() {
        for text in [
            "[bans]\n[licenses]\nskip = [\n]\n",
            "[bans]\nskip = [\n    { name = \"x\" },\n]\n",
            "[bans]\nskip = [\n    \"x\",\n",
        ] {
            assert_eq!(list(text, "[bans]", "skip"), None, "{text}");
        }
    }
}
