//! The operator's client of QEMU's persistent reservation helper.
//!
//! It does with a disk what a virtual machine does: it hands the disk's file descriptor and a
//! PERSISTENT RESERVE command to the helper, over the helper's socket, and shows the answer. What it
//! has to do goes one way, a module a step:
//!
//! ```text
//! cli → commands → output → stdout
//!          ↓↑
//!        helper (→ device, pr-helper-protocol)
//! ```
//!
//! | module | job |
//! |---|---|
//! | `cli` | the command line: its definition, its values, its help |
//! | `command` | a command line to what becomes of it |
//! | `report` | the commands that ask: PERSISTENT RESERVE IN |
//! | `change` | the commands that change: PERSISTENT RESERVE OUT |
//! | `decode` | bytes explained, without a helper |
//! | `lun` | soft LUNs: made, listed, shown |
//! | `demo` | a failover of two nodes, played through a helper of its own |
//! | `ask` | one command at the helper: sent, sent again where that is harmless, judged |
//! | `patience` | says that the helper takes long |
//! | `device` | opens what a command is about |
//! | `outcome` | what a command has to say, before anybody has said how |
//! | `names` | the words for types, scopes and service actions on command lines and in JSON |
//! | `render` | to text or to JSON |
//! | `error`, `chain`, `advice` | what can go wrong, as one line, and what to do then |
//! | `exit` | exit statuses |

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod advice;
mod chain;
mod cli;
mod commands;
mod device;
mod error;
mod exit;
mod helper;
mod labels;
mod output;
mod patience;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser};

use cli::{Cli, Color};
use exit::Exit;
use output::Output;

/// Runs the program with its command line, the program's name first. Gives its exit status: 0 if
/// the command was done, 1 if it could not be sent, and otherwise that of `sg_persist` for how it
/// ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match Cli::try_parse_from(arguments) {
        Ok(cli) => execute(&cli),
        Err(error) => refuse(&error),
    };
    exit.into()
}

/// The definition of the command line, for man pages and completions.
#[must_use]
pub fn command_line() -> Command {
    Cli::command()
}

fn execute(cli: &Cli) -> Exit {
    let output = Output::new(cli.global.color, cli.global.json);
    match commands::execute(&cli.command, &cli.global.socket, &output) {
        Ok(outcome) => output.outcome(&outcome),
        Err(failure) => output.failure(&failure),
    }
}

/// Answers what is no command: help, version, or a mistake.
fn refuse(error: &clap::Error) -> Exit {
    // The options are not known, so there is neither JSON nor a choice of colour.
    let output = Output::new(Color::Auto, false);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output.print(&error.render().to_string(), Exit::DONE)
        }
        _ => {
            output.complain(error.render().to_string().trim_end());
            Exit::FAILURE
        }
    }
}
