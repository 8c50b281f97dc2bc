// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors in the command line, which are reported like all other errors.

use clap::error::Error;
use thiserror::Error;

use crate::error::AdvisedError;

/// An error in the command line.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    message: String,
    advice: Vec<String>,
}

impl AdvisedError for UsageError {
    fn advice(&self) -> Vec<String> {
        self.advice.clone()
    }
}

impl UsageError {
    /// Creates the error for options of a helper that a subcommand does not use.
    pub(crate) fn unused_helper() -> Self {
        Self {
            message: "this subcommand uses no helper, so -k, -v and --timeout have no effect"
                .to_owned(),
            advice: Vec::new(),
        }
    }

    /// Creates an error from the text of clap's.
    pub(crate) fn new(error: &Error) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(one_line);
        let message = paragraphs.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let mut advice = Vec::new();
        for paragraph in paragraphs {
            if let Some(tip) = paragraph.strip_prefix("tip: ") {
                // This tip makes an option that does not exist the name of a device.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn error(arguments: &str) -> UsageError {
        UsageError::new(&Cli::try_parse_from(arguments.split(' ')).unwrap_err())
    }

    #[test]
    fn text_of_clap_is_taken_apart() {
        let error = error("prhctl register d");
        let message = "the following required arguments were not provided: --key <KEY>";
        assert_eq!(error.message, message);
        let [usage, help] = error.advice.try_into().unwrap();
        assert!(usage.starts_with("Usage: prhctl register "), "{usage}");
        assert_eq!(help, "See 'prhctl register --help'.");
    }

    #[test]
    fn misspelled_subcommand_has_a_tip() {
        let error = error("prhctl kyes d");
        assert_eq!(error.message, "unrecognized subcommand 'kyes'");
        let tip = "Tip: a similar subcommand exists: 'keys'.";
        assert!(error.advice.contains(&tip.to_owned()), "{error:?}");
    }

    #[test]
    fn unknown_option_is_not_taken_for_a_device() {
        let error = error("prhctl keys d --key 5");
        assert_eq!(error.message, "unexpected argument '--key' found");
        assert!(!error.advice.join("\n").contains("--key"), "{error:?}");
    }
}
