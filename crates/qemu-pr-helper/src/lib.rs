//! QEMU's SCSI persistent reservation helper.
//!
//! A virtual machine monitor without privileges sends a SCSI PERSISTENT RESERVE command and the file
//! descriptor of a disk; the helper, which may, executes the command and sends back status, sense and
//! data. A request goes one way, a module a step:
//!
//! ```text
//! listener → engine → session → backend (→ device: which one) → session
//!                     bytes→Request   Request→Outcome           Outcome→bytes
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`options`] | the command line |
//! | [`startup`] | from the command line to serving, and to the end |
//! | [`account`], [`activation`], [`daemonize`], [`pidfile`], [`privileges`] | one step of that each |
//! | [`created_file`] | socket file and PID file, and their removal |
//! | [`listener`] | the socket that clients connect to |
//! | [`closer`] | closes rejected connections |
//! | `exiting` | whether the process that holds a socket or a lock was killed |
//! | [`engine`] | the threads, and what they wait for |
//! | [`session`], [`client`] | one client's connection, and who it is |
//! | [`target`] | what is known of a device before its command counts |
//! | [`device`] | from a file descriptor to what it is |
//! | [`backend`] | executes a command |
//! | [`outcome`] | how it ended |
//! | [`report`] | what log and trace say of a command |
//! | `logging`, [`trace`] | where that goes |

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

pub mod backend;
pub mod cli;
pub mod command;
pub mod limits;
pub(crate) mod logging;
pub mod multipath;
pub mod process;
pub mod sandbox;
pub mod server;
pub mod startup;
pub mod trace;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Options, usage_error};

/// Runs the program with its command line, the program's name first. Gives its exit status: 0 after
/// help, version, a list of events or a signal, 1 if it could not start.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            print_stdout(&error.render().to_string());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprint_line(&usage_error(&error));
            eprint_line(&format!(
                "Try '{} --help' for more information.",
                logging::PROGRAM
            ));
            return ExitCode::FAILURE;
        }
    };
    logging::init(options.quiet, options.verbose);
    let result = startup::run(&options);
    trace::finish();
    result.unwrap_or_else(|error| {
        eprint_line(&error_chain(&error));
        ExitCode::FAILURE
    })
}

/// What failed, on what, and why, in one line.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// Writes to standard output, whether or not anybody reads it to the end.
fn print_stdout(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn eprint_line(line: &str) {
    let program = logging::PROGRAM;
    logging::write_line(log::Level::Error, format_args!("{program}: {line}"));
}
