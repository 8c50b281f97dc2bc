//! What the operator reads: one line on standard error for each thing worth saying.
//!
//! | level | what belongs there | shown |
//! |---|---|---|
//! | error | the helper, or part of it, cannot do its work | always |
//! | warn | a client or a device did what it should not; somebody may have to act | unless `-q` |
//! | info | connections come and go, commands are refused as they should be | with `-v` |
//! | debug | each command | with `-vv` |

use std::io;
use std::os::fd::AsFd;

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The name in front of every line.
pub const PROGRAM: &str = "qemu-pr-helper";

struct StandardError;

/// Begins to log, as much as the command line asks for. `quiet` wins.
pub fn start(quiet: u8, verbose: u8) {
    // Only a second call fails, and it would change nothing.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(match (quiet, verbose) {
        (1.., _) => LevelFilter::Error,
        (0, 0) => LevelFilter::Warn,
        (0, 1) => LevelFilter::Info,
        (0, _) => LevelFilter::Debug,
    });
}

/// Writes one line to standard error, unless that would block or fail.
pub fn write_line(line: &str) {
    write_line_to(io::stderr(), line);
}

/// Writes one line to `file`, unless that would block or fail.
///
/// Whoever reads the other end (libvirt closes it, a stopped log collector fills it) must not be able
/// to stop a guest's command.
pub fn write_line_to(file: impl AsFd, line: &str) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if let Ok(1) = poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&now)) {
        // One write, so that lines of several threads do not mix.
        let _ = rustix::io::write(&file, format!("{line}\n").as_bytes());
    }
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // The words that QEMU's own programs put there.
        let kind = match record.level() {
            Level::Error => "",
            Level::Warn => "warning: ",
            Level::Info => "info: ",
            Level::Debug | Level::Trace => "debug: ",
        };
        if self.enabled(record.metadata()) {
            write_line(&format!("{PROGRAM}: {kind}{}", record.args()));
        }
    }

    fn flush(&self) {}
}
