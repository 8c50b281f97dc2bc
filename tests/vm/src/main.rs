// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenarios in virtual machines with a real SCSI target.
//!
//! The program has two sides: the host's boots a machine for each scenario, and the guest's, which
//! is the first process of that machine, runs the scenario.

#![forbid(unsafe_code)]

mod exit_status;
mod guest;
mod host;
mod role;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Boots virtual machines with a real SCSI target and runs scenarios in them
#[derive(Parser)]
#[command(
    name = "vm-tests",
    bin_name = "cargo xtask vm",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(flatten)]
    options: host::Options,
    #[command(subcommand)]
    side: Option<Side>,
}

#[derive(Subcommand)]
enum Side {
    /// Runs a scenario as the first process of such a machine
    #[command(hide = true)]
    GuestInit(guest::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.side {
        Some(Side::GuestInit(options)) => guest::run(&options),
        None => host::run(&arguments.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
