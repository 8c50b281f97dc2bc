// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors in the command line.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;

/// The text of an error in the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageText {
    /// The fault, in one line without a period.
    pub message: String,
    /// Lines that say what to do; may be empty.
    pub advice: Vec<String>,
}

impl UsageText {
    /// Creates the text from that of an error of clap.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut paragraphs = text.split("\n\n").map(one_line);
        let message = paragraphs.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let mut advice = Vec::new();
        for paragraph in paragraphs {
            if let Some(tip) = paragraph.strip_prefix("tip: ") {
                // This tip makes an option that does not exist an argument.
                if !tip.starts_with("to pass ") {
                    advice.push(format!("Tip: {tip}."));
                }
            } else if paragraph.starts_with("Usage: ") {
                advice.push(format!("See '{} --help'.", command_of(&paragraph)));
                advice.insert(0, paragraph);
            }
        }
        Self {
            message: message.to_owned(),
            advice,
        }
    }
}

/// Joins the lines of a paragraph.
fn one_line(paragraph: &str) -> String {
    let lines = paragraph.lines().map(str::trim);
    lines.collect::<Vec<_>>().join(" ")
}

/// Returns the program and its subcommands from a line that describes the usage.
fn command_of(usage: &str) -> String {
    let words = usage.split(' ').skip(1);
    let names = words.take_while(|word| !word.starts_with(['[', '<', '-']));
    names.collect::<Vec<_>>().join(" ")
}

/// An option value that is not a number in the range.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("valid are {first} to {last}")]
pub struct NumberError<T: Display> {
    /// The smallest valid number.
    pub first: T,
    /// The largest valid number.
    pub last: T,
}

/// Parses a decimal number.
///
/// # Errors
///
/// Returns [`NumberError`] if the text is not a number, or is not in `range`.
pub fn parse_number<T: Copy + Display + FromStr + PartialOrd>(
    text: &str,
    range: RangeInclusive<T>,
) -> Result<T, NumberError<T>> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| NumberError {
        first: *range.start(),
        last: *range.end(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_clap_is_taken_apart() {
        let text = "error: unexpected argument '--sockt' found\n\n  \
                    tip: a similar argument exists: '--socket'\n\n\
                    Usage: helper run --key <KEY>\n\n\
                    For more information, try '--help'.\n";
        let text = UsageText::new(text);
        assert_eq!(text.message, "unexpected argument '--sockt' found");
        let advice = [
            "Usage: helper run --key <KEY>",
            "Tip: a similar argument exists: '--socket'.",
            "See 'helper run --help'.",
        ];
        assert_eq!(text.advice, advice);
    }

    #[test]
    fn number_outside_of_the_range_is_rejected() {
        assert_eq!(parse_number("9", 1..=9), Ok(9));
        for text in ["0", "10", "-1", "x", "", "1.5", "99999999999999999999999"] {
            let error = parse_number(text, 1..=9).unwrap_err();
            assert_eq!(error.to_string(), "valid are 1 to 9", "{text}");
        }
    }
}
