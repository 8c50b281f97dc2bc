// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parsing of hexadecimal text: digits only, without sign or separators.

use std::fmt;

use thiserror::Error;

/// The reason that a text is not the expected hexadecimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum HexError {
    /// The text has no digit.
    #[error("no hexadecimal digit")]
    Empty,
    /// The text has more digits than the number can have.
    #[error("more than {max} hexadecimal digits")]
    TooLong {
        /// Largest number of digits.
        max: usize,
    },
    /// The text has fewer digits than the number must have.
    #[error("fewer than {min} hexadecimal digits")]
    TooShort {
        /// Smallest number of digits.
        min: usize,
    },
    /// A character is not a hexadecimal digit.
    #[error("{0:?} is not a hexadecimal digit")]
    Digit(char),
}

/// Returns `text` without a leading `0x` or `0X`.
pub(crate) fn without_prefix(text: &str) -> &str {
    text.strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text)
}

/// Checks that `digits` consists of `min` to `max` hexadecimal digits.
fn check(digits: &str, min: usize, max: usize) -> Result<(), HexError> {
    if let Some(other) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(HexError::Digit(other));
    }
    match digits.len() {
        0 => Err(HexError::Empty),
        length if length < min => Err(HexError::TooShort { min }),
        length if length > max => Err(HexError::TooLong { max }),
        _ => Ok(()),
    }
}

/// Parses `min` to `max` digits without a prefix. `max` must not exceed 16.
pub(crate) fn parse_u64(digits: &str, min: usize, max: usize) -> Result<u64, HexError> {
    check(digits, min, max)?;
    u64::from_str_radix(digits, 16).map_err(|_| HexError::TooLong { max })
}

/// Parses `N` bytes of exactly two digits each, without separators.
pub(crate) fn parse_bytes<const N: usize>(digits: &str) -> Result<[u8; N], HexError> {
    let length = N.saturating_mul(2);
    check(digits, length, length)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let value = str::from_utf8(pair).map(|pair| u8::from_str_radix(pair, 16));
        // `check` found only digits, so neither conversion fails.
        *byte = value.map_or(0, Result::unwrap_or_default);
    }
    Ok(bytes)
}

/// Displays bytes as two digits each, without separators.
pub(crate) struct HexBytes<'a>(pub(crate) &'a [u8]);

impl fmt::Display for HexBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
