// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test fixtures of the project, used by the tests of every crate, the virtual machine tests and
//! the benchmark.
//!
//! | module | content |
//! |---|---|
//! | [`helper`] | a helper as a child process |
//! | [`client`] | a client that can break the protocol |
//! | [`cdb`] | commands: a CDB with its parameter list |
//! | [`soft_lun`] | a soft LUN with two ports |
//! | [`hanging_devices`] | files on which a command hangs, like disks on dead paths |
//! | [`namespace`] | mount namespaces, in which a test replaces files of the host |
//! | [`fake_proc`] | processes in a directory that has the layout of procfs |
//! | [`pty`] | programs on a pseudo-terminal |
//! | [`screen`], [`picture`] | the screens that output produces, and pictures of them |
//! | [`shells`] | completions that bash, fish and zsh offer |
//! | [`table`] | comparison of a document's table with the program |
//! | [`raw_text`] | texts that no user may read |
//! | [`usage`] | resources of a process |
//! | [`procfs`] | other properties of a process |
//! | [`process`], [`build`] | programs that run to their end, and their builds |
//!
//! Functions that start, stop or run a process return errors. Functions that check the behavior of
//! a process panic, like assertions.

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_errors_doc,
    reason = "tests report errors and do not distinguish them"
)]
#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

pub mod build;
pub mod cdb;
pub mod client;
pub mod fake_proc;
pub mod hanging_devices;
pub mod helper;
pub mod namespace;
pub mod picture;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod raw_text;
pub mod screen;
pub mod shells;
pub mod soft_lun;
pub mod table;
pub mod usage;

use std::env;
use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

pub use client::TestClient;
pub use helper::HelperProcess;

/// Timeout for an event that must happen. It is long, because a machine under load is slow.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Calls `poll` repeatedly until it returns a value, for at most [`TEST_TIMEOUT`].
///
/// # Panics
///
/// Panics after the timeout. The message has the name of the `event`.
#[track_caller]
pub fn eventually<T>(event: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    match process::poll(TEST_TIMEOUT, || Ok(poll())) {
        Ok(Some(value)) => value,
        _ => panic!("timed out waiting for {event}"),
    }
}

/// Prints the reason why a test is skipped.
///
/// # Panics
///
/// Panics if no test may be skipped: if the environment variable `PR_COMPAT_STRICT` is set.
#[track_caller]
pub fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    let thread = thread::current();
    let test = thread.name().unwrap_or("unnamed");
    // The test harness would capture the output of `eprintln!`.
    let _ = writeln!(io::stderr(), "{test}: skipped: {reason}");
}
