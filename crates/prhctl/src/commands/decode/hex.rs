// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parses hexadecimal text in the notations that dumps and logs use.

use super::DecodeError;

/// Parses bytes, with optional blanks, commas, colons, semicolons and `0x` between them.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, DecodeError> {
    let is_separator = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';');
    let mut bytes = Vec::new();
    for word in text.split(is_separator).filter(|word| !word.is_empty()) {
        bytes.extend(parse_word(word).ok_or_else(|| DecodeError::Hex(word.to_owned()))?);
    }
    match bytes.is_empty() {
        true => Err(DecodeError::Empty),
        false => Ok(bytes),
    }
}

/// Parses pairs of digits. A single digit is a byte too, as in `0x0`.
fn parse_word(word: &str) -> Option<Vec<u8>> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let digits = digits.unwrap_or(word).as_bytes();
    match digits {
        [] => None,
        [digit] => Some(vec![parse_digit(*digit)?]),
        _ => {
            let (pairs, rest) = digits.as_chunks::<2>();
            let bytes = pairs
                .iter()
                .map(|[high, low]| Some(parse_digit(*high)? << 4 | parse_digit(*low)?));
            rest.is_empty().then(|| bytes.collect()).flatten()
        }
    }
}

fn parse_digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
