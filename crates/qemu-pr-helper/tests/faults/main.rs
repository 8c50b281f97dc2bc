// SPDX-License-Identifier: MIT OR Apache-2.0

//! The real helper under faults: limits that are reached, clients that disconnect or are slow,
//! system calls that fail. Unaffected clients must be served meanwhile, and afterwards no resource
//! is left.
//!
//! | module | job |
//! |---|---|
//! | `helper` | a helper as a child process |
//! | `lingering_sockets` | descriptors with a close that blocks |
//! | `other_processes` | clients in another process |
//! | all other modules | the tests |
//!
//! This program also runs as those other processes, depending on its arguments, so it has its own
//! `main`. `syscall_errors` needs `strace` and is skipped without it; with `PR_COMPAT_STRICT` a
//! skipped test fails.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

/// Lists test functions with their names.
macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        &[$((stringify!($test), $test)),+]
    };
}

mod attack;
mod burst;
mod clients;
mod closes;
mod command_limit;
mod descriptors;
mod device_limits;
mod disconnects;
mod helper;
mod lingering_sockets;
mod other_processes;
mod peers;
mod slow_clients;
mod soak;
mod syscall_errors;
mod threads;

use std::env;
use std::panic;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and its function.
type Test = (&'static str, fn());

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let [other_processes::CLIENTS_ARG, rest @ ..] = arguments.as_slice() {
        return other_processes::run(rest);
    }
    let areas: [(&str, &[Test]); 13] = [
        ("attack", attack::TESTS),
        ("burst", burst::TESTS),
        ("clients", clients::TESTS),
        ("closes", closes::TESTS),
        ("command_limit", command_limit::TESTS),
        ("slow_clients", slow_clients::TESTS),
        ("descriptors", descriptors::TESTS),
        ("device_limits", device_limits::TESTS),
        ("peers", peers::TESTS),
        ("syscall_errors", syscall_errors::TESTS),
        ("soak", soak::TESTS),
        ("threads", threads::TESTS),
        ("disconnects", disconnects::TESTS),
    ];
    let trials = areas.into_iter().flat_map(|(area, tests)| {
        let trial = move |(name, test): &Test| Trial::test(format!("{area}::{name}"), run(*test));
        tests.iter().map(trial)
    });
    let mut arguments = Arguments::from_args();
    // Independent of the number of processors, because most tests wait for their own helper.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Wraps a test. The message of a panic goes to standard error.
fn run(test: fn()) -> impl FnOnce() -> Result<(), Failed> {
    move || panic::catch_unwind(test).map_err(|_| "see standard error".into())
}
