// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that was killed while one of its threads is stuck in the kernel, and the next helper.
//!
//! The thread waits for a FUSE server, which has read a request and does not answer. SIGKILL does
//! not end such a wait. The tests need root and `/dev/fuse`.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use pr_testkit::cdb::read_keys;
use pr_testkit::hanging_devices::HangingDevices;
use pr_testkit::helper::Builder;
use pr_testkit::procfs::is_running;
use pr_testkit::{HelperProcess, eventually, skip};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

/// Creates a builder of a helper with its socket and its PID file in `dir`.
fn builder(dir: &Path) -> Builder {
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper.dir(dir).args(["-f", "pid"])
}

/// Connects to a socket from which no process accepts, until its backlog is full.
fn fill_backlog(socket: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(socket).unwrap();
    let mut queued = Vec::new();
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&client, &address) {
            Ok(()) => queued.push(client),
            Err(error) => break assert_eq!(error, rustix::io::Errno::AGAIN),
        }
    }
    queued
}

#[test]
fn killed_helper_with_a_stuck_thread_is_replaced() {
    replace_killed_helper(false);
}

#[test]
fn killed_helper_with_a_full_backlog_is_replaced() {
    // The backlog has 4096 connections, and this process has one end of each.
    let limit = Rlimit {
        current: Some(10_000),
        ..getrlimit(Resource::Nofile)
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        return skip(&format!("cannot open 10,000 files: {error}"));
    }
    replace_killed_helper(true);
}

fn replace_killed_helper(fills_backlog: bool) {
    let dir = tempfile::tempdir().unwrap();
    // Declared before the devices, so that it is dropped after them if the test fails.
    let mut first = builder(dir.path()).start().unwrap();
    let Some(devices) = HangingDevices::mount() else {
        return;
    };
    let disk = devices.open(0);
    let mut client = first.client();
    client.send(&read_keys(8).cdb, disk.as_fd());
    devices.wait_for_commands(1);

    first.signal(Signal::KILL);
    eventually("the main thread to end", || {
        (!is_running(first.pid())).then_some(())
    });
    // The process still exists, and its socket is open.
    assert_eq!(first.try_wait().unwrap(), None);
    let queued = match fills_backlog {
        true => fill_backlog(first.socket()),
        false => vec![first.connect().stream.into()],
    };

    let mut second = builder(dir.path()).spawn().unwrap();
    // Until then, a client would connect to the first helper, which does not answer.
    eventually("the PID file of the second helper", || {
        let content = fs::read_to_string(dir.path().join("pid")).unwrap_or_default();
        (content == format!("{}\n", second.pid())).then_some(())
    });
    let mut other = second.client();
    other.assert_served();
    let log = second.stderr();
    for replaced in ["warning: socket", "warning: PID file"] {
        let line = log.lines().find(|line| line.contains(replaced));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        let process = format!(" replaced: process {},", first.pid());
        assert!(line.contains(&process), "{line}");
    }
    drop((other, queued));
    assert!(second.terminate().unwrap().success());
    assert!(!second.socket().exists() && !dir.path().join("pid").exists());
    // The server of the devices ends when no process has a file open.
    drop((client, disk));
    drop(devices);
    first.wait().unwrap();
}

/// A stopped helper still exists, although it serves no client.
#[test]
fn stopped_helper_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let first = builder(dir.path()).start().unwrap();
    let other = tempfile::tempdir().unwrap();
    first.while_stopped(|| {
        // Each option is tested alone: the other file is a new one.
        for [socket_dir, pid_dir] in [[&dir, &other], [&other, &dir]] {
            let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"))
                .socket(socket_dir.path().join("socket"))
                .arg("-f")
                .arg(pid_dir.path().join("pid"));
            let output = helper.output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains("another"), "{text}");
        }
    });
}
