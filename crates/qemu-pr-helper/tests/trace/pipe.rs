// SPDX-License-Identifier: MIT OR Apache-2.0

//! Named pipe as trace file: without a reader, and with slow, late and changing readers.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pr_testkit::eventually;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::binary_reader::{self, Item};
use crate::client_records;
use crate::definitions::Definitions;
use crate::event_counts::{EventCounts, binary_trace_args, expected_events};
use crate::helper::{Helper, builder, run_load};

const CLIENTS: u64 = 16;

/// Starts a helper that writes a binary trace to the named pipe `trace`.
fn start(dir: &Path) -> Helper {
    mkfifoat(CWD, dir.join("trace"), Mode::RUSR | Mode::WUSR).unwrap();
    let command = builder(dir).args(binary_trace_args("trace"));
    Helper::start(command)
}

/// A reader of a pipe, slow at first.
#[derive(Default)]
struct PipeReader {
    /// Set to read without delays.
    is_fast: AtomicBool,
    /// Number of bytes read so far in fast mode.
    count: AtomicUsize,
}

impl PipeReader {
    /// Reads a pipe to its end. In slow mode it reads `piece` bytes every 2 ms, or nothing if
    /// `piece` is 0.
    fn read(&self, mut pipe: File, piece: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.is_fast.load(Ordering::SeqCst) {
            let mut buffer = vec![0; piece];
            let count = if piece > 0 {
                pipe.read(&mut buffer).unwrap()
            } else {
                0
            };
            bytes.extend(&buffer[..count]);
            thread::sleep(Duration::from_millis(2));
        }
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match pipe.read(&mut buffer).unwrap() {
                0 => return bytes,
                count => bytes.extend(&buffer[..count]),
            }
            self.count.store(bytes.len(), Ordering::SeqCst);
        }
    }

    /// Switches to fast mode and waits until no more bytes arrive.
    fn drain(&self) {
        self.is_fast.store(true, Ordering::SeqCst);
        let mut before = 0;
        eventually("empty buffer of the helper", || {
            // The delay exceeds the flush interval of the helper.
            thread::sleep(Duration::from_millis(300));
            let count = self.count.load(Ordering::SeqCst);
            let is_drained = count > 0 && count == before;
            before = count;
            is_drained.then_some(())
        });
    }
}

/// Runs a load while a [`PipeReader`] reads the trace, and checks the trace. Returns the number of
/// dropped events.
fn run_load_with_reader(piece: usize, requests: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = start(dir.path());
    let reader = PipeReader::default();
    let (first, bytes) = thread::scope(|scope| {
        let pipe = File::open(dir.path().join("trace")).unwrap();
        let thread = scope.spawn(|| reader.read(pipe, piece));
        let first = run_load(&helper, CLIENTS, requests);
        reader.drain();
        assert!(helper.terminate().unwrap().success());
        (first, thread.join().unwrap())
    });
    let items = binary_reader::read(&bytes, &Definitions::from_helper()).unwrap();
    let counts = EventCounts::new(&items);
    counts.assert_complete(&expected_events(helper.connected(), &[(CLIENTS, requests)]));
    client_records::check(&items, helper.id(), first, CLIENTS, requests);
    assert_eq!(helper.log().contains("trace dropped"), counts.dropped > 0);
    counts.dropped
}

#[test]
fn slow_reader_gets_drop_markers() {
    // 16 bytes every 2 ms are far less than what the load produces.
    assert!(run_load_with_reader(16, 1500) > 0);
}

#[test]
fn late_reader_gets_drop_markers() {
    assert!(run_load_with_reader(0, 1500) > 0);
}

#[test]
fn pipe_without_reader_keeps_the_first_events() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = start(dir.path());
    let (clients, requests) = (4, 1250);
    let first = run_load(&helper, clients, requests);

    let reader = PipeReader::default();
    let bytes = thread::scope(|scope| {
        let pipe = File::open(dir.path().join("trace")).unwrap();
        let thread = scope.spawn(|| reader.read(pipe, 0));
        reader.drain();
        assert!(helper.terminate().unwrap().success());
        thread.join().unwrap()
    });
    let items = binary_reader::read(&bytes, &Definitions::from_helper()).unwrap();
    EventCounts::new(&items)
        .assert_complete(&expected_events(helper.connected(), &[(clients, requests)]));
    client_records::check(&items, helper.id(), first, clients, requests);
    let Some(Item::Event(first)) = items.first() else {
        panic!("{:?}", items.first());
    };
    assert_eq!(first.name, "socket_listen");
}

#[test]
fn full_pipe_at_exit_has_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = start(dir.path());
    // This reader reads nothing before the helper has exited.
    let mut pipe = File::open(dir.path().join("trace")).unwrap();
    let (clients, requests) = (4, 250);
    run_load(&helper, clients, requests);
    assert!(helper.terminate().unwrap().success());
    // The log has the number of the last dropped events, unless the drop marker fit into the pipe.
    let stderr = helper.log();
    let last = stderr.split_once("trace dropped its last ");
    let last = last.map(|(_, rest)| rest.split_once(" events").unwrap().0);
    let last = last.map_or(0, |last| last.parse().unwrap());

    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    let items = binary_reader::read(&bytes, &Definitions::from_helper()).unwrap();
    let mut counts = EventCounts::new(&items);
    counts.dropped += last;
    counts.assert_complete(&expected_events(helper.connected(), &[(clients, requests)]));
    assert!(counts.dropped > 0);
}

#[test]
fn next_reader_continues_after_the_previous_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = start(dir.path());
    let path = dir.path().join("trace");
    // The first two readers most likely stop in the middle of a record.
    let mut bytes = vec![0; 999];
    File::open(&path).unwrap().read_exact(&mut bytes).unwrap();
    run_load(&helper, 4, 250);
    let mut more = vec![0; 77_777];
    File::open(&path).unwrap().read_exact(&mut more).unwrap();
    bytes.extend(more);
    run_load(&helper, 4, 250);

    let reader = PipeReader::default();
    let rest = thread::scope(|scope| {
        let pipe = File::open(&path).unwrap();
        let thread = scope.spawn(|| reader.read(pipe, 0));
        reader.drain();
        assert!(helper.terminate().unwrap().success());
        thread.join().unwrap()
    });
    bytes.extend(rest);
    let items = binary_reader::read(&bytes, &Definitions::from_helper()).unwrap();
    let loads = [(4, 250), (4, 250)];
    EventCounts::new(&items).assert_complete(&expected_events(helper.connected(), &loads));
}
