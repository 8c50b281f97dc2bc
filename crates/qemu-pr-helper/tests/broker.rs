// SPDX-License-Identifier: MIT OR Apache-2.0

//! Broker for multipath maps: it runs as long as the helper, inherits nothing from it, and exits
//! with it.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use pr_testkit::helper::Builder;
use pr_testkit::process::stop;
use pr_testkit::procfs::{is_running, only_child, open_files, status};
use pr_testkit::{HelperProcess, eventually, skip};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, geteuid, kill_process};

fn builder() -> Builder {
    HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"))
}

/// Helper that accepts clients, and its broker.
struct Running {
    helper: HelperProcess,
    broker: Pid,
}

impl Running {
    fn start(builder: Builder) -> Self {
        let helper = builder.start().unwrap();
        let broker = only_child(helper.pid());
        Self { helper, broker }
    }

    fn end(mut self, signal: Signal) {
        self.helper.signal(signal);
        self.helper.wait().unwrap();
        wait_for_exit(self.broker);
    }
}

fn wait_for_exit(broker: Pid) {
    eventually("exit of the broker", || (!is_running(broker)).then_some(()));
}

#[test]
fn broker_exits_when_the_helper_exits_or_is_killed() {
    for signal in [Signal::TERM, Signal::KILL] {
        Running::start(builder()).end(signal);
    }
}

#[test]
fn broker_ignores_termination_signals() {
    let running = Running::start(builder());
    // A service manager signals all processes of a service.
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        kill_process(running.broker, signal).unwrap();
    }
    assert_eq!(status(running.broker, "Name"), "pr-broker");
    running.end(Signal::TERM);
}

#[test]
fn broker_uses_two_capabilities_and_gets_none() {
    let running = Running::start(builder());
    // CAP_DAC_READ_SEARCH is number 2, CAP_SYS_RAWIO number 17.
    let used: u64 = 1 << 2 | 1 << 17;
    // CAP_DAC_OVERRIDE is number 1, and effective only while the broker removes a file.
    let permitted = used | 1 << 1;
    for (set, allowed) in [("CapPrm", permitted), ("CapEff", used)] {
        let held = u64::from_str_radix(&status(running.broker, set), 16).unwrap();
        assert_eq!(held & !allowed, 0, "{set} {held:#x}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(running.broker, set), "0".repeat(16), "{set}");
    }
    assert_eq!(status(running.broker, "NoNewPrivs"), "1");
    assert_eq!(status(running.broker, "Seccomp"), "2");
    running.end(Signal::TERM);
}

#[test]
fn broker_has_no_inherited_files_open() {
    let dir = tempfile::tempdir().unwrap();
    // libvirt passes a lock to the helper, and considers the helper gone once the lock is released.
    let lock = File::create(dir.path().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fcntl_setfd(&lock, FdFlags::empty()).unwrap();
    let running = Running::start(builder().dir(dir.path()));
    let helper = open_files(running.helper.pid());
    assert!(helper.iter().any(|(number, _)| *number == lock.as_raw_fd()));

    // The directory of the socket, and the signalfd for workers that have exited.
    let own = [dir.path().to_str().unwrap(), "anon_inode:[signalfd]"];
    // The broker has one socket for messages of the helper and one for rejected connections, which
    // it receives after its start.
    let others = eventually("two sockets", || {
        let files = open_files(running.broker).into_iter();
        let others = files.filter(|(number, file)| *number > 2 && !own.contains(&&**file));
        let others: Vec<_> = others.collect();
        (others.len() == 2).then_some(others)
    });
    assert!(others.iter().all(|(_, file)| file.starts_with("socket:")));
    let sockets: BTreeSet<_> = helper.iter().map(|(_, file)| file).collect();
    // These are neither the listener nor the helper's ends.
    assert!(
        others.iter().all(|(_, file)| !sockets.contains(file)),
        "{others:?}"
    );
    running.end(Signal::KILL);
}

#[test]
fn helper_fails_when_its_broker_is_killed() {
    let mut running = Running::start(builder().args(["-f", "pid"]));
    kill_process(running.broker, Signal::KILL).unwrap();
    assert_eq!(running.helper.wait().unwrap().code(), Some(1));
    let log = running.helper.stderr();
    assert!(log.contains("broker ended unexpectedly"), "{log}");
    // The helper cannot remove files, but it can truncate the one that it has open.
    let dir = running.helper.dir();
    assert_eq!(fs::read_to_string(dir.join("pid")).unwrap(), "");
    // The next helper replaces the socket.
    Running::start(builder().dir(dir)).end(Signal::TERM);
}

#[test]
fn broker_removes_the_files_of_a_user_s_helper() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let (socket, pid_file) = (dir.path().join("socket"), dir.path().join("pid"));
    let user = ["-u", "54321", "-g", "54321"];
    let helper = builder().dir(dir.path()).args(["-f", "pid"]).args(user);
    let running = Running::start(helper);
    assert!(pid_file.exists());
    running.end(Signal::TERM);
    assert!(!socket.exists(), "socket not removed");
    assert!(!pid_file.exists(), "PID file not removed");
}

#[test]
fn files_that_were_replaced_stay() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let running = Running::start(builder().dir(dir.path()));
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "another's").unwrap();
    running.end(Signal::TERM);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "another's");
}

/// libvirt takes the socket's file for a successful start, so that it would not report the error.
#[test]
fn pid_file_error_leaves_the_socket_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    // The file of a socket that nothing serves, which a successful start replaces.
    drop(UnixListener::bind(&socket).unwrap());
    let inode = fs::symlink_metadata(&socket).unwrap().ino();
    let helper = builder().dir(dir.path()).args(["-f", "nonexistent/pid"]);
    let output = helper.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(fs::symlink_metadata(&socket).unwrap().ino(), inode);
}

#[test]
fn stopped_broker_delays_exit_only_briefly() {
    let mut running = Running::start(builder());
    stop(running.broker).unwrap();
    let start = Instant::now();
    assert!(running.helper.terminate().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(30));
    kill_process(running.broker, Signal::CONT).unwrap();
    wait_for_exit(running.broker);
}

#[test]
fn daemon_closes_the_streams_of_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let helper = builder().dir(dir.path()).args(["-d", "-f"]).arg(&pid_file);
    // Reading the output ends only when all processes have closed the other ends.
    assert!(helper.output().unwrap().status.success());
    let helper = fs::read_to_string(pid_file).unwrap();
    let helper = Pid::from_raw(helper.trim().parse().unwrap()).unwrap();
    let broker = only_child(helper);
    assert!(is_running(broker));
    kill_process(helper, Signal::KILL).unwrap();
    wait_for_exit(broker);
}
