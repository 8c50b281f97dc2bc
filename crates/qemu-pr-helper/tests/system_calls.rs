// SPDX-License-Identifier: MIT OR Apache-2.0

//! The system calls of a request, counted by strace: those that docs/performance.md lists, and no
//! others.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::BTreeMap;
use std::fs;

use pr_testkit::cdb::{PrCommand, read_keys, register};
use pr_testkit::client::null;
use pr_testkit::procfs::only_child;
use pr_testkit::{HelperProcess, process, skip};
use rustix::process::{Signal, kill_process};
use scsi_pr::Status;

const DOCUMENT: &str = include_str!("../../../docs/performance.md");

/// Command line of strace, which executes the helper.
const STRACE: [&str; 7] = ["strace", "-f", "-qq", "-e", "signal=none", "-o", "log"];

const REQUESTS: usize = 500;

/// Maximum number of calls that do not count as one in each request. strace slows down everything,
/// so the next request is sometimes late, and the helper waits with epoll. Every other call must be
/// rarer than once in ten requests.
const MAX_RARE: usize = REQUESTS / 10;

/// Number of calls of each system call in a request.
type Calls = BTreeMap<String, usize>;

/// Returns the calls in a column of the document's table.
fn documented_calls(column: usize) -> Calls {
    let rows = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with("| system call |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let calls = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (
            cells[1].trim_matches('`').to_owned(),
            cells[column].parse().unwrap(),
        )
    });
    let calls = calls.filter(|(_, number)| *number > 0).collect::<Calls>();
    assert!(calls.len() > 3, "the table is not found");
    calls
}

/// Counts the calls while a client sends a command [`REQUESTS`] times.
fn count_calls(command: &PrCommand) -> Calls {
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    let mut strace = helper.wrapper(STRACE).start().unwrap();
    let mut client = strace.client();
    let null = null();
    for _ in 0..REQUESTS {
        let status = client.execute(command, &null).status;
        assert_eq!(status, Status::CHECK_CONDITION);
    }
    // The helper exits after the signal, and strace with it.
    kill_process(only_child(strace.pid()), Signal::TERM).unwrap();
    assert!(strace.wait().unwrap().success());
    parse_log(&fs::read_to_string(strace.dir().join("log")).unwrap())
}

/// Counts the calls in the log of strace. Its lines have a thread ID, a call and the result; an
/// interrupted call has two lines, of which the second is not counted.
fn parse_log(log: &str) -> Calls {
    let mut calls = Calls::new();
    // The lines before are the helper's start.
    let served = log.lines().skip_while(|line| !line.contains(" accept4("));
    // A debug build checks each descriptor before it closes it.
    for line in served.filter(|line| !line.contains(", F_GETFD")) {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        if let Some((name, _)) = call.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls.retain(|_, number| *number > MAX_RARE);
    // Rare calls are in the remainder.
    calls
        .values_mut()
        .for_each(|number| *number = (*number + MAX_RARE) / REQUESTS);
    calls.retain(|_, number| *number > 0);
    calls
}

fn check(command: &PrCommand, column: usize) {
    if process::find("strace").is_none() {
        return skip("strace is not installed");
    }
    assert_eq!(count_calls(command), documented_calls(column));
}

#[test]
fn pr_in_calls_match_the_document() {
    check(&read_keys(8), 2);
}

#[test]
fn pr_out_calls_match_the_document() {
    check(&register(0, 0), 3);
}
