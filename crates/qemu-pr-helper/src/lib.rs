// SPDX-License-Identifier: MIT OR Apache-2.0

//! QEMU's helper for SCSI persistent reservations.
//!
//! An unprivileged QEMU sends a SCSI PERSISTENT RESERVE command and the file descriptor of a disk
//! over a Unix socket. The helper has the disk execute the command, and returns status, sense and
//! data.
//!
//! The [`server`] reads a request, finds out its device by [`command`], and has [`backend`] execute
//! it: on a disk, on a soft LUN, or by a process of [`multipath`] on a multipath map. The
//! [`monitor`] records what happens.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

pub mod backend;
pub mod cli;
pub mod command;
mod logging;
pub mod monitor;
pub mod multipath;
pub mod names;
pub mod process;
pub mod sandbox;
pub mod server;
mod startup;
pub mod trace;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use cli_messages::error::error_chain;

use cli::{Options, usage_text};
use logging::PROGRAM;

/// Runs the helper with a command line, which begins with the program's name. Returns the exit
/// status: 0 after a signal, help, version or a list of events, and 1 after an error.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            let text = usage_text(&error);
            eprint_line(&text.message);
            for line in &text.advice {
                eprint_line(line);
            }
            return ExitCode::FAILURE;
        }
        // Help or version.
        Err(error) => {
            print_stdout(&error.render().to_string());
            return ExitCode::SUCCESS;
        }
    };
    logging::init(options.quiet, options.verbose);
    let result = startup::run(&options);
    trace::finish();
    result.unwrap_or_else(|error| {
        eprint_line(&error_chain(&*error));
        ExitCode::FAILURE
    })
}

/// Writes to standard output. Ignores errors, such as a closed pipe.
fn print_stdout(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn eprint_line(line: &str) {
    logging::write_line(log::Level::Error, format_args!("{PROGRAM}: {line}"));
}
