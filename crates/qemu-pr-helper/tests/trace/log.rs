// SPDX-License-Identifier: MIT OR Apache-2.0

//! Backend `log`: lines in a file or on standard error, even if standard error is not read.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pr_testkit::eventually;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::binary_reader::{self, Item};
use crate::client_records;
use crate::definitions::Definitions;
use crate::event_counts::{ALL_BUT_THREAD_EVENTS, expected_events};
use crate::helper::{Helper, builder, run_load};
use crate::text_reader::read_all;

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 100;

/// Runs a helper under load until it exits. Returns the helper, the number of the first client, and
/// the content of `file` in its directory.
fn run(arguments: &[&str], file: &str) -> (Helper, u64, String) {
    let dir = tempfile::tempdir().unwrap();
    let command = builder(dir.path()).args(arguments.iter().copied());
    let mut helper = Helper::start(command);
    let first = run_load(&helper, CLIENTS, REQUESTS);
    assert!(helper.terminate().unwrap().success());
    let text = fs::read_to_string(dir.path().join(file)).unwrap();
    (helper, first, text)
}

/// Checks that the lines have all events. Lines have neither a process ID nor a time.
fn check(text: &str, connections: u64, first: u64) {
    let (records, counts) = read_all(text, &Definitions::from_helper());
    assert_eq!(counts.dropped, 0);
    counts.assert_complete(&expected_events(connections, &[(CLIENTS, REQUESTS)]));
    let items: Vec<_> = records.into_iter().map(Item::Event).collect();
    client_records::check(&items, 0, first, CLIENTS, REQUESTS);
}

#[test]
fn log_writes_to_standard_error() {
    let (helper, first, text) = run(&ALL_BUT_THREAD_EVENTS, "stderr");
    check(&text, helper.connected(), first);
}

#[test]
fn log_writes_to_a_file() {
    let arguments = ["-T*", "-T-pr_helper_thread_*,file=trace"];
    let (helper, first, text) = run(&arguments, "trace");
    assert!(!text.contains("qemu-pr-helper: "));
    check(&text, helper.connected(), first);
}

#[test]
fn timestamps_have_thread_and_time() {
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let arguments = [
        "--trace-timestamp",
        "-T*",
        "-T-pr_helper_thread_*,file=trace",
    ];
    let (helper, first, text) = run(&arguments, "trace");
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut threads: Vec<u32> = Vec::new();
    let mut plain = String::new();
    for line in text.lines() {
        let (timestamp, rest) = line.split_once(':').unwrap();
        let (thread, time) = timestamp.split_once('@').unwrap();
        let (seconds, microseconds) = time.split_once('.').unwrap();
        assert_eq!(microseconds.len(), 6, "{line}");
        let microseconds: u128 = microseconds.parse().unwrap();
        let time = seconds.parse::<u128>().unwrap() * 1_000_000 + microseconds;
        assert!(
            time >= before.as_micros() && time <= after.as_micros(),
            "{line}"
        );
        threads.push(thread.parse().unwrap());
        plain += &format!("{rest}\n");
    }
    check(&plain, helper.connected(), first);
    // The main thread starts and stops the helper. Other threads serve clients.
    let main = helper.id();
    assert_eq!(threads.first(), Some(&main));
    assert_eq!(threads.last(), Some(&main));
    assert!(threads.iter().any(|thread| *thread != main));
}

#[test]
fn log_and_simple_have_the_same_events() {
    let dir = tempfile::tempdir().unwrap();
    let command = builder(dir.path()).args([
        "--trace-backend",
        "log",
        "--trace-backend",
        "simple",
        "-Tpr_helper_in_*",
        "-Tpr_helper_out_*,file=trace",
    ]);
    let mut helper = Helper::start(command);
    run_load(&helper, 1, 100);
    assert!(helper.terminate().unwrap().success());
    let definitions = Definitions::from_helper();
    let (lines, _) = read_all(&helper.log(), &definitions);
    let bytes = fs::read(dir.path().join("trace")).unwrap();
    let items = binary_reader::read(&bytes, &definitions).unwrap();
    assert_eq!(lines.len(), 200);
    assert_eq!(items.len(), 200);
    for (line, item) in lines.iter().zip(&items) {
        let Item::Event(record) = item else {
            panic!("{item:?}");
        };
        assert_eq!((&line.name, &line.values), (&record.name, &record.values));
    }
}

#[test]
fn closed_stderr_does_not_stop_the_helper() {
    let dir = tempfile::tempdir().unwrap();
    let wrapper = ["sh", "-c", "exec \"$0\" \"$@\" 2>&-"];
    let command = builder(dir.path())
        .wrapper(wrapper)
        .args(ALL_BUT_THREAD_EVENTS);
    let mut helper = Helper::start(command);
    run_load(&helper, 4, 100);
    assert!(helper.terminate().unwrap().success());
}

#[test]
fn broken_stderr_pipe_does_not_stop_the_helper() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(reader);
    let command = builder(dir.path()).args(ALL_BUT_THREAD_EVENTS);
    let mut helper = Helper::start(command.stderr(writer));
    run_load(&helper, 4, 100);
    assert!(helper.terminate().unwrap().success());
}

#[test]
fn full_stderr_pipe_does_not_stop_the_helper() {
    let dir = tempfile::tempdir().unwrap();
    let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let command = builder(dir.path()).args(ALL_BUT_THREAD_EVENTS);
    let mut helper = Helper::start(command.stderr(writer));
    run_load(&helper, 4, 1250);
    assert!(helper.terminate().unwrap().success());
}

#[test]
fn late_stderr_reader_gets_a_drop_marker() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let command = builder(dir.path()).args(ALL_BUT_THREAD_EVENTS);
    let mut helper = Helper::start(command.stderr(writer));
    let (clients, requests) = (4, 5000);
    run_load(&helper, clients, requests);
    // The pipe is read from now on, and closed only when the broker has exited too.
    let is_read = Arc::new(AtomicBool::new(false));
    let has_read = Arc::clone(&is_read);
    let thread = std::thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(File::from(reader)).lines() {
            let line = line.unwrap();
            has_read.store(true, Ordering::SeqCst);
            text += &(line + "\n");
        }
        text
    });
    // At exit, the helper waits only a second for a writable pipe. On a busy host, a new thread may
    // not run within a second, so the test waits for the reader first.
    eventually("reader thread", || {
        is_read.load(Ordering::SeqCst).then_some(())
    });
    let connections = helper.connected();
    assert!(helper.terminate().unwrap().success());
    let text = thread.join().unwrap();
    let (_, counts) = read_all(&text, &Definitions::from_helper());
    counts.assert_complete(&expected_events(connections, &[(clients, requests)]));
    assert!(counts.dropped > 0);
}
