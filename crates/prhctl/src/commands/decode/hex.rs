//! Text to bytes, in the spellings in which people have them.

use super::DecodeError;

/// Bytes from hexadecimal text: any blanks, commas, colons and `0x` between them.
///
/// # Errors
///
/// [`DecodeError::Hex`] and [`DecodeError::Empty`].
pub(super) fn parse(text: &str) -> Result<Vec<u8>, DecodeError> {
    let is_separator = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';');
    let mut bytes = Vec::new();
    for word in text.split(is_separator).filter(|word| !word.is_empty()) {
        bytes.extend(word_bytes(word).ok_or_else(|| DecodeError::Hex(word.to_owned()))?);
    }
    match bytes.is_empty() {
        true => Err(DecodeError::Empty),
        false => Ok(bytes),
    }
}

/// The bytes of one word: pairs of digits. A lone digit is a byte by itself, as `0x0` and `0` are.
fn word_bytes(word: &str) -> Option<Vec<u8>> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let digits = digits.unwrap_or(word).as_bytes();
    match digits {
        [] => None,
        [digit] => Some(vec![value(*digit)?]),
        _ => {
            let (pairs, rest) = digits.as_chunks::<2>();
            let bytes = pairs
                .iter()
                .map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
            rest.is_empty().then(|| bytes.collect()).flatten()
        }
    }
}

fn value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_any_spelling() {
        for text in [
            "5e000018",
            "5E 00 00 18",
            "0x5e 0x0 0x00 0x18",
            "0x5e000018",
            "5e:00:00:18",
            " 5e, 0, 0, 18\n",
            "5e00\n0018\n",
        ] {
            assert_eq!(parse(text).unwrap(), [0x5e, 0, 0, 0x18], "{text}");
        }
    }

    #[test]
    fn what_is_no_byte_is_named() {
        for (text, word) in [("5e 0g", "0g"), ("5e 123", "123"), ("0x", "0x"), ("é", "é")] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, DecodeError::Hex(found) if found == word));
        }
        assert!(matches!(parse(" , "), Err(DecodeError::Empty)));
    }
}
