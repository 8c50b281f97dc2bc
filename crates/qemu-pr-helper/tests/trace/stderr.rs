//! Lines for a standard error that does not take them: the helper serves on.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::account::{ALL_BUT_THREADS, expected};
use crate::definitions::Definitions;
use crate::helper::{Launch, load, wait_for};
use crate::text::read_all;

#[test]
fn a_closed_one() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = ["sh", "-c", "exec \"$0\" \"$@\" 2>&-"];
    let launch = Launch::under(folder.path(), &wrapper).args(ALL_BUT_THREADS);
    let mut running = launch.start();
    load(&running, 4, 100);
    assert!(running.terminate().success());
}

#[test]
fn a_pipe_that_nobody_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(reader);
    let launch = Launch::new(folder.path()).args(ALL_BUT_THREADS);
    let mut running = launch.stderr(writer).start();
    load(&running, 4, 100);
    assert!(running.terminate().success());
}

#[test]
fn a_pipe_that_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let launch = Launch::new(folder.path()).args(ALL_BUT_THREADS);
    let mut running = launch.stderr(writer).start();
    load(&running, 4, 1250);
    assert!(running.terminate().success());
}

#[test]
fn a_pipe_that_is_read_again_gets_the_number_of_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let launch = Launch::new(folder.path()).args(ALL_BUT_THREADS);
    let mut running = launch.stderr(writer).start();
    let (clients, requests) = (4, 5000);
    load(&running, clients, requests);
    // From now on it is read to the end. The broker has it, too, until it ends.
    let is_read = Arc::new(AtomicBool::new(false));
    let has_read = Arc::clone(&is_read);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(File::from(reader)).lines() {
            let line = line.unwrap();
            has_read.store(true, Ordering::SeqCst);
            text += &(line + "\n");
        }
        text
    });
    // At its end the helper waits a second for room, in which a new thread may not run on a busy host.
    wait_for("the reader", || {
        is_read.load(Ordering::SeqCst).then_some(())
    });
    let connections = running.connected();
    assert!(running.terminate().success());
    let text = reading.join().unwrap();
    let (_, account) = read_all(&text, &Definitions::of_helper());
    account.settle(&expected(connections, &[(clients, requests)]));
    assert!(account.dropped > 0);
}
