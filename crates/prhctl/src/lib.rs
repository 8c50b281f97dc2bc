// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operator's client of QEMU's persistent reservation helper.
//!
//! `prhctl` does with a disk what a virtual machine does: it passes the disk's file descriptor and
//! a PERSISTENT RESERVE command to the helper, over the helper's socket, and prints the response.
//!
//! ```text
//! cli → commands → output → stdout
//!          ↓
//!        helper (→ pr-helper-protocol)
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `cli` | definition of the command line |
//! | `commands` | one module for each subcommand: arguments, help, what it does, and its result |
//! | `helper` | connection to the helper: opens the device, sends commands, retries |
//! | `running_helpers`, `state` | search for the helpers of this host, and their state documents |
//! | `known_disks`, `journal` | the disks and the journals in the states of the helpers |
//! | `block_device`, `scsi_path` | maps, paths, partitions and volumes in sysfs |
//! | `own_registration` | the registration of this host among those of a device |
//! | `completion` | values that shells offer for a command line |
//! | `output` | parts of results as text and as JSON |
//! | `context` | options of several subcommands, and where results and errors go |
//! | `confirmation` | question before a change that affects others |
//! | `cleanup` | removal of what a subcommand has created, also after a signal |
//! | `orphans` | registrations that no running machine can have made |
//! | `console` | standard output and standard error: colors, escaping, columns |
//! | `terminal`, `wrap` | size of the terminal, text that replaces the screen, and line breaks |
//! | `time` | points in time and durations as text |
//! | `labels` | names of types, scopes and service actions on the command line and in JSON |
//! | `error`, `usage_error`, `advice`, `exit` | errors, what to do about them, and exit statuses |

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod advice;
mod block_device;
mod cleanup;
mod cli;
mod commands;
mod completion;
mod confirmation;
mod console;
mod context;
mod error;
mod exit;
mod helper;
mod journal;
mod known_disks;
mod labels;
mod orphans;
mod output;
mod own_registration;
mod running_helpers;
mod scsi_path;
mod state;
#[cfg(test)]
mod state_fixture;
mod terminal;
mod time;
mod usage_error;
mod wrap;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;

use cli::Cli;
use console::{Color, Console};
use context::{Context, HelperArgs};
use exit::Exit;
use usage_error::UsageError;

/// Runs the program with its command line, the program's name first.
///
/// Returns the exit status: 0 if the command was executed, 1 if it could not be sent, and otherwise
/// the status that `sg_persist` has for the way in which the command ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let exit = match completion::complete(command_line, &arguments) {
        Ok(true) => Exit::SUCCESS,
        Ok(false) => match Cli::try_parse_from(&arguments) {
            Ok(cli) => execute(cli),
            Err(error) => print_help_or_error(&error, &arguments),
        },
        Err(error) => print_help_or_error(&error, &arguments),
    };
    exit.into()
}

/// Returns the script that completes command lines in a shell.
#[must_use]
pub fn completion_script(shell: Shell) -> String {
    completion::script(shell)
}

/// Returns the definition of the command line, for man pages.
#[must_use]
pub fn command_line() -> clap::Command {
    Cli::command()
}

fn execute(cli: Cli) -> Exit {
    let context = Context {
        console: Console::new(cli.global.color),
        is_json: cli.global.json,
        helper: cli.helper,
    };
    match cli.command.as_subcommand() {
        command if context.helper.is_given() && !command.uses_helper() => {
            context.print_failure(&UsageError::unused_helper().into())
        }
        command => command.run(&context),
    }
}

/// Prints help, the version, or an error in the command line.
fn print_help_or_error(error: &clap::Error, arguments: &[OsString]) -> Exit {
    let console = Console::new(Color::Auto);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            console.print(&error.render().to_string(), Exit::SUCCESS)
        }
        _ => {
            let options = arguments.iter().take_while(|argument| *argument != "--");
            let context = Context {
                console,
                is_json: options.into_iter().any(|argument| argument == "--json"),
                helper: HelperArgs::default(),
            };
            context.print_failure(&UsageError::new(error).into())
        }
    }
}
