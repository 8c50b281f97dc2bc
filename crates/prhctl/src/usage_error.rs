// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors in the command line, which are reported like all other errors.

use clap::error::Error;
use cli_messages::usage::UsageText;
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
        let text = UsageText::new(&error.render().to_string());
        Self {
            message: text.message,
            advice: text.advice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{Arg, Command, CommandFactory as _, Parser as _};
    use pr_testkit::raw_text;

    fn error(arguments: &str) -> UsageError {
        UsageError::new(&Cli::try_parse_from(arguments.split(' ')).unwrap_err())
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

    /// Checks the errors of a subcommand's options and returns their number. `path` are the words
    /// of the command line that name the subcommand.
    fn check_bad_values(command: &Command, path: &[String]) -> usize {
        let mut rejected = 0;
        for option in command.get_arguments().filter_map(Arg::get_long) {
            for argument in raw_text::bad_values(option) {
                let words = path.iter().chain([&argument]);
                if let Err(error) = Cli::try_parse_from(words) {
                    let UsageError { message, advice } = UsageError::new(&error);
                    raw_text::assert_none(&format!("{message}\n{}", advice.join("\n")));
                    rejected += 1;
                }
            }
        }
        let subcommands = command.get_subcommands().map(|subcommand| {
            let name = subcommand.get_name().to_owned();
            check_bad_values(subcommand, &[path, &[name]].concat())
        });
        rejected + subcommands.sum::<usize>()
    }

    #[test]
    fn bad_value_of_any_option_has_no_raw_text() {
        let rejected = check_bad_values(&Cli::command(), &["prhctl".to_owned()]);
        assert!(rejected > 100, "{rejected}");
    }
}
