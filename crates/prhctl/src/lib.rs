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
//! | `commands` | one module for each subcommand: arguments, help, what it does and its result |
//! | `helper` | connection to the helper: opens the device, sends commands, retries |
//! | `block_device`, `scsi_path` | maps, paths, partitions and volumes in sysfs |
//! | `output` | results as text and as JSON |
//! | `console` | standard output and standard error: colors, escaping, columns |
//! | `labels` | names of types, scopes and service actions on the command line and in JSON |
//! | `error`, `advice`, `exit` | errors, what to do about them, and exit statuses |

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod advice;
mod block_device;
mod cli;
mod commands;
mod console;
mod error;
mod exit;
mod helper;
mod labels;
mod output;
mod scsi_path;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use cli::{Cli, CliCommand};
use commands::{
    capabilities, clear, decode, demo, keys, lun, move_reservation, preempt, register, release,
    reservation, reserve, run_query, status,
};
use console::{Color, Console};
use error::{AdvisedError, ErrorText, Failure};
use exit::Exit;
use output::json::{self, ToJson};
use output::text::{self, ToText};

/// Runs the program with its command line, the program's name first.
///
/// Returns the exit status: 0 if the command was executed, 1 if it could not be sent, and otherwise
/// the status that `sg_persist` has for the way in which the command ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match Cli::try_parse_from(arguments) {
        Ok(cli) => execute(&cli),
        Err(error) => print_usage(&error),
    };
    exit.into()
}

/// Returns the definition of the command line, for man pages and completions.
#[must_use]
pub fn command_line() -> clap::Command {
    Cli::command()
}

fn execute(cli: &Cli) -> Exit {
    let socket = &cli.global.socket;
    let console = Console::new(cli.global.color);
    let printer = Printer {
        console,
        is_json: cli.global.json,
    };
    match &cli.command {
        CliCommand::Keys(args) => printer.finish(run_query(args, socket, console, keys::query)),
        CliCommand::Reservation(args) => {
            printer.finish(run_query(args, socket, console, reservation::query))
        }
        CliCommand::Capabilities(args) => {
            printer.finish(run_query(args, socket, console, capabilities::query))
        }
        CliCommand::Status(args) => printer.finish(run_query(args, socket, console, status::query)),
        CliCommand::Register(args) => printer.finish(register::run(args, socket, console)),
        CliCommand::Unregister(args) => printer.finish(register::unregister(args, socket, console)),
        CliCommand::Reserve(args) => printer.finish(reserve::run(args, socket, console)),
        CliCommand::Release(args) => printer.finish(release::run(args, socket, console)),
        CliCommand::Clear(args) => printer.finish(clear::run(args, socket, console)),
        CliCommand::Preempt(args) => printer.finish(preempt::run(args, socket, console)),
        CliCommand::Move(args) => printer.finish(move_reservation::run(args, socket, console)),
        CliCommand::Decode(args) => match decode::run(args) {
            Ok(explanation) if explanation.summary.is_err() => {
                printer.print(&explanation, Exit::FAILURE)
            }
            result => printer.finish(result),
        },
        CliCommand::Lun(lun::LunCommand::Create(args)) => printer.finish(lun::create(args)),
        CliCommand::Lun(lun::LunCommand::List(args)) => printer.finish(lun::list(args, console)),
        CliCommand::Lun(lun::LunCommand::Show(args)) => printer.finish(lun::show(args)),
        CliCommand::Demo(args) => printer.run_demo(args),
    }
}

/// Prints help, the version, or an error in the command line.
fn print_usage(error: &clap::Error) -> Exit {
    // The options could not be parsed, so neither --json nor --color applies.
    let console = Console::new(Color::Auto);
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => console.print(&text, Exit::SUCCESS),
        _ => {
            console.eprint(text.trim_end());
            Exit::FAILURE
        }
    }
}

/// Prints results and errors as text or as JSON.
struct Printer {
    console: Console,
    is_json: bool,
}

impl Printer {
    fn finish<T: ToText + ToJson, E: Into<Failure>>(&self, result: Result<T, E>) -> Exit {
        match result {
            Ok(value) => self.print(&value, Exit::SUCCESS),
            Err(error) => self.print_failure(&error.into()),
        }
    }

    fn print<T: ToText + ToJson>(&self, value: &T, exit: Exit) -> Exit {
        let text = match self.is_json {
            true => value.to_json().pretty(),
            false => value.to_text(),
        };
        self.console.print(&text, exit)
    }

    /// Prints an error to standard error, and with `--json` also as a document.
    fn print_failure(&self, failure: &Failure) -> Exit {
        let exit = failure.error.exit();
        let text = self.print_error(failure.error.as_ref());
        match self.is_json {
            true => self
                .console
                .print(&json::failure(failure, &text).pretty(), exit),
            false => exit,
        }
    }

    fn print_error(&self, error: &dyn AdvisedError) -> ErrorText {
        let text = ErrorText::new(error);
        self.console.error(&text.message, &text.advice);
        text
    }

    /// Runs the demonstration and prints each step as soon as it is complete; JSON follows at the
    /// end.
    fn run_demo(&self, args: &demo::DemoArgs) -> Exit {
        let show = |event: demo::DemoEvent<'_>| {
            if !self.is_json {
                // An error here shows again when the result is printed, which sets the exit status.
                self.console
                    .print(&text::demo::event(&event), Exit::SUCCESS);
            }
        };
        let demonstration = match demo::run(args, show) {
            Ok(demonstration) => demonstration,
            Err(error) => return self.print_failure(&error.into()),
        };
        let exit = match demonstration.passed() {
            true => Exit::SUCCESS,
            false => Exit::FAILURE,
        };
        let error = demonstration.error.as_ref();
        let error_text = error.map(|error| self.print_error(error));
        match (self.is_json, error_text) {
            (true, error_text) => {
                let document = json::demo(&demonstration, error_text.as_ref());
                self.console.print(&document.pretty(), exit)
            }
            (false, None) => self
                .console
                .print(&text::demo::conclusion(&demonstration), exit),
            (false, Some(_)) => exit,
        }
    }
}
