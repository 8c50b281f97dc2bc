//! The backend `log`: a line for each event.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::account::{ALL_BUT_THREADS, expected};
use crate::contents;
use crate::definitions::Definitions;
use crate::helper::{Launch, Running, load};
use crate::reader::Item;
use crate::text::read_all;

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 100;

/// What a helper has written to `file` of its folder by its end.
fn trace_of(arguments: &[&str], file: &str) -> (Running, u64, String) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).args(arguments.iter().copied());
    let mut running = launch.start();
    let first = load(&running, CLIENTS, REQUESTS);
    assert!(running.terminate().success());
    let text = fs::read_to_string(folder.path().join(file)).unwrap();
    (running, first, text)
}

/// Checks everything about the lines. They have neither process nor time.
fn check(text: &str, connections: u64, first: u64) {
    let (records, account) = read_all(text, &Definitions::of_helper());
    assert_eq!(account.dropped, 0);
    account.settle(&expected(connections, &[(CLIENTS, REQUESTS)]));
    let items: Vec<_> = records.into_iter().map(Item::Event).collect();
    contents::check(&items, 0, first, CLIENTS, REQUESTS);
}

#[test]
fn lines_go_to_standard_error() {
    let (running, first, text) = trace_of(&ALL_BUT_THREADS, "stderr");
    check(&text, running.connected(), first);
}

#[test]
fn lines_go_to_a_file() {
    let arguments = ["-T*", "-T-pr_helper_thread_*,file=trace"];
    let (running, first, text) = trace_of(&arguments, "trace");
    assert!(!text.contains("qemu-pr-helper: "));
    check(&text, running.connected(), first);
}

#[test]
fn lines_can_begin_with_thread_and_time() {
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let arguments = [
        "--trace-timestamp",
        "-T*",
        "-T-pr_helper_thread_*,file=trace",
    ];
    let (running, first, text) = trace_of(&arguments, "trace");
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut threads: Vec<u32> = Vec::new();
    let mut plain = String::new();
    for line in text.lines() {
        let (stamp, rest) = line.split_once(':').unwrap();
        let (thread, time) = stamp.split_once('@').unwrap();
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
    check(&plain, running.connected(), first);
    // The first thread starts and stops the helper, others serve.
    let main = running.pid();
    assert_eq!(threads.first(), Some(&main));
    assert_eq!(threads.last(), Some(&main));
    assert!(threads.iter().any(|thread| *thread != main));
}

#[test]
fn both_backends_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).args([
        "--trace-backend",
        "log",
        "--trace-backend",
        "simple",
        "-Tpr_helper_in_*",
        "-Tpr_helper_out_*,file=trace",
    ]);
    let mut running = launch.start();
    load(&running, 1, 100);
    assert!(running.terminate().success());
    let definitions = Definitions::of_helper();
    let (lines, _) = read_all(&running.said(), &definitions);
    let bytes = fs::read(folder.path().join("trace")).unwrap();
    let items = crate::reader::read(&bytes, &definitions).unwrap();
    assert_eq!(lines.len(), 200);
    assert_eq!(items.len(), 200);
    for (line, item) in lines.iter().zip(&items) {
        let Item::Event(record) = item else {
            panic!("{item:?}");
        };
        assert_eq!((&line.name, &line.values), (&record.name, &record.values));
    }
}
