//! Hexadecimal text: exactly digits, no sign, no separators.

use std::fmt;

use thiserror::Error;

/// Why a text is not the hexadecimal number that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum HexError {
    /// There is no digit.
    #[error("no hexadecimal digit")]
    Empty,
    /// There are more digits than the number has room for.
    #[error("more than {most} hexadecimal digits")]
    TooLong {
        /// How many digits may be there.
        most: usize,
    },
    /// There are fewer digits than the name always has.
    #[error("fewer than {least} hexadecimal digits")]
    TooShort {
        /// How many digits must be there.
        least: usize,
    },
    /// A character is no hexadecimal digit.
    #[error("{0:?} is not a hexadecimal digit")]
    Digit(char),
}

/// `text` without a leading `0x` or `0X`.
pub(crate) fn without_prefix(text: &str) -> &str {
    text.strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text)
}

/// Checks that `digits` is `least` to `most` hexadecimal digits and nothing else.
///
/// # Errors
///
/// [`HexError`]: it is not.
fn check(digits: &str, least: usize, most: usize) -> Result<(), HexError> {
    if let Some(other) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(HexError::Digit(other));
    }
    match digits.len() {
        0 => Err(HexError::Empty),
        length if length < least => Err(HexError::TooShort { least }),
        length if length > most => Err(HexError::TooLong { most }),
        _ => Ok(()),
    }
}

/// The number of `least` to `most` (at most 16) digits, without a prefix.
///
/// # Errors
///
/// [`HexError`]: `digits` is something else.
pub(crate) fn parse_u64(digits: &str, least: usize, most: usize) -> Result<u64, HexError> {
    check(digits, least, most)?;
    u64::from_str_radix(digits, 16).map_err(|_| HexError::TooLong { most })
}

/// The number of exactly 32 digits, without a prefix.
///
/// # Errors
///
/// [`HexError`]: `digits` is something else.
pub(crate) fn parse_u128(digits: &str) -> Result<u128, HexError> {
    parse_bytes(digits).map(u128::from_be_bytes)
}

/// Bytes from exactly two digits each, without separators.
///
/// # Errors
///
/// [`HexError`]: `digits` is something else.
pub(crate) fn parse_bytes<const N: usize>(digits: &str) -> Result<[u8; N], HexError> {
    let length = N.saturating_mul(2);
    check(digits, length, length)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = pair
            .iter()
            .fold(0, |value, digit| value << 4 | digit_value(*digit));
    }
    Ok(bytes)
}

/// The value of a hexadecimal digit; 0 for any other character.
fn digit_value(digit: u8) -> u8 {
    let value = char::from(digit).to_digit(16);
    value
        .and_then(|value| u8::try_from(value).ok())
        .unwrap_or(0)
}

/// Bytes as text: two digits each, without separators.
pub(crate) struct Pairs<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
