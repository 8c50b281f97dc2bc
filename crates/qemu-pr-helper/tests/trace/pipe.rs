//! A named pipe as trace file: with a reader that is slow, late, or not the only one; and without.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::account::{Account, expected, to_binary_file};
use crate::contents;
use crate::definitions::Definitions;
use crate::helper::{Launch, Running, load, wait_for};
use crate::reader::{self, Item};

const CLIENTS: u64 = 16;

/// A helper whose trace goes into the pipe `trace`.
fn start(folder: &Path) -> Running {
    mkfifoat(CWD, folder.join("trace"), Mode::RUSR | Mode::WUSR).unwrap();
    let arguments = to_binary_file("trace");
    let launch = Launch::new(folder).args(arguments.iter().map(String::as_str));
    launch.start()
}

/// Somebody who reads a pipe to its end, as fast as it is told.
#[derive(Default)]
struct Reader {
    hurries: AtomicBool,
    count: AtomicUsize,
}

impl Reader {
    /// Reads `piece` bytes at a time with a pause in between, or nothing at all if that is 0, until
    /// there is a hurry.
    fn read(&self, mut pipe: File, piece: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.hurries.load(Ordering::SeqCst) {
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

    /// Has it read on at once, and waits until nothing more comes.
    fn hurry(&self) {
        self.hurries.store(true, Ordering::SeqCst);
        let mut before = 0;
        wait_for("the end of what is kept", || {
            // As long as the helper keeps records back, and longer.
            thread::sleep(Duration::from_millis(300));
            let count = self.count.load(Ordering::SeqCst);
            let is_all = count > 0 && count == before;
            before = count;
            is_all.then_some(())
        });
    }
}

/// Puts a load on a helper whose trace is read like this. Gives how many events are missing.
fn load_with_reader(piece: usize, requests: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path());
    let reader = Reader::default();
    let (first, bytes) = thread::scope(|scope| {
        let pipe = File::open(folder.path().join("trace")).unwrap();
        let reading = scope.spawn(|| reader.read(pipe, piece));
        let first = load(&running, CLIENTS, requests);
        reader.hurry();
        assert!(running.terminate().success());
        (first, reading.join().unwrap())
    });
    let items = reader::read(&bytes, &Definitions::of_helper()).unwrap();
    let account = Account::of(&items);
    account.settle(&expected(running.connected(), &[(CLIENTS, requests)]));
    contents::check(&items, running.pid(), first, CLIENTS, requests);
    assert_eq!(
        running.said().contains("trace dropped"),
        account.dropped > 0
    );
    account.dropped
}

#[test]
fn what_a_slow_reader_misses_is_counted() {
    // 16 bytes each 2 ms: far less than any machine produces meanwhile.
    assert!(load_with_reader(16, 1500) > 0);
}

#[test]
fn what_a_reader_misses_who_reads_at_the_end_is_counted() {
    assert!(load_with_reader(0, 1500) > 0);
}

#[test]
fn without_a_reader_the_helper_serves_and_a_late_one_gets_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path());
    let (clients, requests) = (4, 1250);
    let first = load(&running, clients, requests);

    let reader = Reader::default();
    let bytes = thread::scope(|scope| {
        let pipe = File::open(folder.path().join("trace")).unwrap();
        let reading = scope.spawn(|| reader.read(pipe, 0));
        reader.hurry();
        assert!(running.terminate().success());
        reading.join().unwrap()
    });
    let items = reader::read(&bytes, &Definitions::of_helper()).unwrap();
    Account::of(&items).settle(&expected(running.connected(), &[(clients, requests)]));
    contents::check(&items, running.pid(), first, clients, requests);
    let Some(Item::Event(first)) = items.first() else {
        panic!("{:?}", items.first());
    };
    assert_eq!(first.name, "socket_listen");
}

#[test]
fn what_is_in_the_pipe_at_the_end_is_whole_and_the_rest_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path());
    // Somebody who reads nothing before the helper has ended.
    let mut pipe = File::open(folder.path().join("trace")).unwrap();
    let (clients, requests) = (4, 250);
    load(&running, clients, requests);
    assert!(running.terminate().success());
    // In the log, unless there was just room for the number in the pipe.
    let said = running.said();
    let last = said.split_once("trace dropped its last ");
    let last = last.map(|(_, rest)| rest.split_once(" events").unwrap().0);
    let last = last.map_or(0, |last| last.parse().unwrap());

    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    let items = reader::read(&bytes, &Definitions::of_helper()).unwrap();
    let mut account = Account::of(&items);
    account.dropped += last;
    account.settle(&expected(running.connected(), &[(clients, requests)]));
    assert!(account.dropped > 0);
}

#[test]
fn readers_come_and_go_and_the_next_goes_on_where_the_last_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path());
    let path = folder.path().join("trace");
    // Neither stops where a record ends, but by chance.
    let mut bytes = vec![0; 999];
    File::open(&path).unwrap().read_exact(&mut bytes).unwrap();
    load(&running, 4, 250);
    let mut more = vec![0; 77_777];
    File::open(&path).unwrap().read_exact(&mut more).unwrap();
    bytes.extend(more);
    load(&running, 4, 250);

    let reader = Reader::default();
    let rest = thread::scope(|scope| {
        let pipe = File::open(&path).unwrap();
        let reading = scope.spawn(|| reader.read(pipe, 0));
        reader.hurry();
        assert!(running.terminate().success());
        reading.join().unwrap()
    });
    bytes.extend(rest);
    let items = reader::read(&bytes, &Definitions::of_helper()).unwrap();
    let loads = [(4, 250), (4, 250)];
    Account::of(&items).settle(&expected(running.connected(), &loads));
}
