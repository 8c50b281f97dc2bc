// SPDX-License-Identifier: MIT OR Apache-2.0

//! Confirmation of changes that take rights away from other initiator ports.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::Args;
use thiserror::Error;

use crate::console::Console;
use crate::error::AdvisedError;

/// Option of the subcommands that ask.
#[derive(Debug, Args)]
pub(crate) struct ConfirmationArgs {
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// The operator has not confirmed a change.
#[derive(Debug, Error)]
#[error("not confirmed: nothing was sent")]
pub(crate) struct NotConfirmed;

impl AdvisedError for NotConfirmed {}

impl ConfirmationArgs {
    /// Asks for confirmation if standard input is a terminal. `effect` describes the change of
    /// `devices`.
    pub(crate) fn confirm(
        &self,
        console: Console,
        effect: &str,
        devices: &[PathBuf],
    ) -> Result<(), NotConfirmed> {
        if self.yes || !io::stdin().is_terminal() {
            return Ok(());
        }
        let devices: Vec<_> = devices
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let question = format!("{}: {effect}. Continue? [y/N]", devices.join(", "));
        let answer = console.ask(&question).unwrap_or_default();
        match ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            true => Ok(()),
            false => Err(NotConfirmed),
        }
    }
}
