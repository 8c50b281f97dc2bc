// SPDX-License-Identifier: MIT OR Apache-2.0

//! Backend `syslog`: a datagram to `/dev/log` for each event. In the helper's mount namespace,
//! `/dev/log` is a socket of the test.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pr_testkit::eventually;
use pr_testkit::namespace::mount_namespace;
use rustix::io::ioctl_fionread;

use crate::binary_reader::Item;
use crate::client_records;
use crate::definitions::Definitions;
use crate::event_counts::{ALL_BUT_THREAD_EVENTS, expected_events};
use crate::helper::{Helper, builder, run_load};
use crate::text_reader::read_all;

/// Shell script that replaces `/dev` by a directory with only `null` and the socket `log`.
const DEV: &str = "mkdir dev; mount -t tmpfs none dev; touch dev/null dev/log; \
                   mount --bind /dev/null dev/null; mount --bind log dev/log; \
                   mount --rbind dev /dev";

/// A load that fills the queue of datagrams.
const CLIENTS: u64 = 4;
const REQUESTS: u64 = 1000;

/// Starts a helper with these events in a mount namespace where `/dev/log` is the socket `log` in
/// `dir`. Returns `None` if the namespace cannot be created.
fn start(dir: &Path, events: &[&str]) -> Option<Helper> {
    let wrapper = mount_namespace(DEV)?;
    let command = builder(dir)
        .wrapper(wrapper)
        .args(["--trace-backend", "syslog"]);
    Some(Helper::start(command.args(events)))
}

/// Receives datagrams until `is_done` is set and the queue is empty. Returns them as lines without
/// their prefix.
fn receive(log: &UnixDatagram, pid: u32, is_done: &AtomicBool) -> String {
    let prefix = format!("<30>qemu-pr-helper[{pid}]: ");
    let mut text = String::new();
    let mut buffer = [0; 4096];
    log.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    loop {
        // The flag is read first, so that datagrams sent before it was set are still received.
        let is_last = is_done.load(Ordering::SeqCst);
        match log.recv(&mut buffer) {
            Ok(length) => {
                let line = str::from_utf8(&buffer[..length]).unwrap();
                assert!(!line.contains('\n'), "{line}");
                text += line.strip_prefix(&prefix).unwrap();
                text.push('\n');
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if is_last {
                    return text;
                }
            }
        }
    }
}

/// Runs a helper under a load, and receives datagrams only after the load. Returns the helper, the
/// lines that it sent before its exit, and those of its exit; `None` if the namespace cannot be
/// created.
fn run_unread(dir: &Path, events: &[&str]) -> Option<(Helper, String, String)> {
    let log = UnixDatagram::bind(dir.join("log")).unwrap();
    let mut helper = start(dir, events)?;
    run_load(&helper, CLIENTS, REQUESTS);
    // Empty the queue, so that it has space for a drop line and the last events.
    let is_done = AtomicBool::new(true);
    let text = receive(&log, helper.id(), &is_done);
    assert!(helper.terminate().unwrap().success());
    let last = receive(&log, helper.id(), &is_done);
    Some((helper, text, last))
}

#[test]
fn syslog_gets_a_line_for_each_event() {
    let dir = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let is_done = AtomicBool::new(false);
    let (clients, requests) = (4, 50);
    let Some(mut helper) = start(dir.path(), &ALL_BUT_THREAD_EVENTS) else {
        return;
    };
    let pid = helper.id();
    thread::scope(|scope| {
        let thread = scope.spawn(|| receive(&log, pid, &is_done));
        let first = run_load(&helper, clients, requests);
        // The queue must have space for the last events.
        eventually("empty queue", || {
            (ioctl_fionread(&log).unwrap() == 0).then_some(())
        });
        assert!(helper.terminate().unwrap().success());
        is_done.store(true, Ordering::SeqCst);
        let text = thread.join().unwrap();
        let (records, counts) = read_all(&text, &Definitions::from_helper());
        counts.assert_complete(&expected_events(helper.connected(), &[(clients, requests)]));
        let mut items: Vec<_> = records.into_iter().map(Item::Event).collect();
        // The default queue of ten datagrams can be full at times.
        if counts.dropped > 0 {
            let (process, count) = (0, counts.dropped);
            items.push(Item::Dropped { process, count });
        }
        client_records::check(&items, 0, first, clients, requests);
    });
}

#[test]
fn late_syslog_reader_gets_a_drop_line() {
    let dir = tempfile::tempdir().unwrap();
    let Some((helper, text, last)) = run_unread(dir.path(), &ALL_BUT_THREAD_EVENTS) else {
        return;
    };
    let lines: Vec<_> = last.lines().collect();
    let [
        dropped,
        "pr_helper_stopping signal=SIGTERM",
        "pr_helper_stopped unanswered=0",
    ] = lines.as_slice()
    else {
        panic!("{last}");
    };
    assert!(dropped.starts_with("dropped "), "{dropped}");
    let (_, counts) = read_all(&(text + &last), &Definitions::from_helper());
    counts.assert_complete(&expected_events(helper.connected(), &[(CLIENTS, REQUESTS)]));
    let stderr = helper.log();
    let lines: Vec<_> = stderr.lines().collect();
    let expected = "qemu-pr-helper: warning: trace dropped events: /dev/log: \
                    Resource temporarily unavailable";
    assert_eq!(lines, [expected]);
}

#[test]
fn syslog_gets_a_drop_line_at_exit() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_, text, last)) = run_unread(dir.path(), &["-Tpr_helper_sg_end"]) else {
        return;
    };
    assert_eq!(last.lines().count(), 1, "{last}");
    assert!(last.starts_with("dropped "), "{last}");
    let (_, counts) = read_all(&(text + &last), &Definitions::from_helper());
    // Three of four requests reach the kernel.
    let name = "pr_helper_sg_end";
    counts.assert_complete(&[(name, CLIENTS * REQUESTS * 3 / 4)].into());
}

#[test]
fn closed_syslog_socket_causes_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let Some(mut helper) = start(dir.path(), &ALL_BUT_THREAD_EVENTS) else {
        return;
    };
    drop(log);
    run_load(&helper, 2, 100);
    assert!(helper.terminate().unwrap().success());
    let stderr = helper.log();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("Connection refused"), "{stderr}");
}
