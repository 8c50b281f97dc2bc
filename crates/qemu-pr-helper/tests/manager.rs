// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages of the helper to a service manager.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use pr_testkit::helper::Builder;
use pr_testkit::process::stop;
use pr_testkit::procfs::{only_child, open_files};
use pr_testkit::{HelperProcess, TEST_TIMEOUT, eventually};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};

/// Environment variable of the watchdog, and a period of 100 ms.
const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "100000");

fn builder(manager: impl AsRef<OsStr>) -> Builder {
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper.env("NOTIFY_SOCKET", manager)
}

/// Starts a helper with this service manager and a watchdog.
fn start_watched(manager: &Path) -> HelperProcess {
    let (name, period) = WATCHDOG;
    builder(manager).env(name, period).spawn().unwrap()
}

/// Binds the socket of a service manager.
fn bind(address: &Path) -> UnixDatagram {
    let manager = UnixDatagram::bind(address).unwrap();
    manager.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    manager
}

/// Returns the lines of the next message.
fn receive(manager: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    let text = String::from_utf8(message[..length].to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn helper_sends_ready_watchdog_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = bind(&address);
    let mut helper = start_watched(&address);
    let status = "STATUS=0 clients, 0 commands in progress";
    assert_eq!(receive(&manager), ["READY=1", "NOTIFYACCESS=all", status]);
    let client = helper.client();
    eventually("a message with the client", || {
        let message = receive(&manager);
        assert_eq!(message[0], "WATCHDOG=1");
        (message[1] == "STATUS=1 clients, 0 commands in progress").then_some(())
    });
    drop(client);
    assert!(helper.terminate().unwrap().success());
    let mut last = receive(&manager);
    while last[0] == "WATCHDOG=1" {
        last = receive(&manager);
    }
    assert_eq!(
        last,
        ["STOPPING=1", "STATUS=waiting for commands in progress"]
    );
}

#[test]
fn helper_without_watchdog_sends_no_ping() {
    let name = format!("pr-helper-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let other_process = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let helper = builder(format!("@{name}")).envs(other_process);
    let mut helper = helper.spawn().unwrap();
    assert_eq!(receive(&manager)[0], "READY=1");
    assert!(helper.terminate().unwrap().success());
    assert_eq!(receive(&manager)[0], "STOPPING=1");
}

#[test]
fn helper_serves_without_its_service_manager() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = builder(dir.path().join("missing")).start().unwrap();
    assert!(helper.terminate().unwrap().success());
    let log = helper.stderr();
    // The helper of an ordinary user also logs that it lacks the capability.
    let about_manager = log.lines().filter(|line| line.contains("service manager"));
    let about_manager: Vec<&str> = about_manager.collect();
    assert_eq!(about_manager.len(), 1, "{log}");
    assert!(about_manager[0].contains("cannot connect"), "{log}");
}

#[test]
fn daemon_sends_its_pid_before_its_parent_exits() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = bind(&address);
    let pid_file = dir.path().join("pid");
    let helper = builder(address).dir(dir.path()).args(["-d", "-f"]);
    let helper = helper.arg(&pid_file);
    assert!(helper.output().unwrap().status.success());
    let process = fs::read_to_string(pid_file).unwrap();
    let process = Pid::from_raw(process.trim().parse().unwrap()).unwrap();
    manager.set_nonblocking(true).unwrap();
    let message = receive(&manager);
    kill_process(process, Signal::TERM).unwrap();
    assert_eq!(message[0], "READY=1");
    assert_eq!(message[1], format!("MAINPID={}", process.as_raw_nonzero()));
    assert_eq!(message[2], "NOTIFYACCESS=all");
}

#[test]
fn ready_is_sent_when_the_queue_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = bind(&address);
    let others = UnixDatagram::unbound().unwrap();
    others.connect(&address).unwrap();
    others.set_nonblocking(true).unwrap();
    let mut waiting = 0;
    while others.send(b"OTHER=1").is_ok() {
        waiting += 1;
    }
    let _helper = builder(address).spawn().unwrap();
    sleep(Duration::from_millis(1500));
    for _ in 0..waiting {
        assert_eq!(receive(&manager), ["OTHER=1"]);
    }
    assert_eq!(receive(&manager)[0], "READY=1");
}

/// Returns the number of sockets that a helper has open.
fn sockets(helper: &HelperProcess) -> usize {
    let files = open_files(helper.pid()).into_iter();
    files
        .filter(|(_, file)| file.starts_with("socket:"))
        .count()
}

/// Binds the socket of a service manager that receives the credentials of senders.
fn manager_with_credentials(address: &Path) -> UnixDatagram {
    let manager = bind(address);
    set_socket_passcred(&manager, true).unwrap();
    manager
}

/// Receives a message. Returns its first line and the process that sent it.
fn receive_from(manager: &UnixDatagram) -> (String, Pid) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(manager, &mut buffers, &mut ancillary, RecvFlags::empty()).unwrap();
    let process = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
        _ => None,
    });
    let text = String::from_utf8(bytes[..received.bytes].to_vec()).unwrap();
    (text.lines().next().unwrap().to_owned(), process.unwrap())
}

#[test]
fn helper_that_serves_has_no_notify_socket() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = manager_with_credentials(&address);
    let mut helper = start_watched(&address);
    assert_eq!(receive_from(&manager), ("READY=1".to_owned(), helper.pid()));
    drop(helper.client());
    let broker = only_child(helper.pid());
    assert_eq!(receive_from(&manager), ("WATCHDOG=1".to_owned(), broker));
    // As many sockets as a helper without a service manager. The connection of the client can still
    // be open for a moment.
    let unmanaged = builder("").start().unwrap();
    eventually("the same number of sockets", || {
        (sockets(&helper) == sockets(&unmanaged)).then_some(())
    });
    assert!(helper.terminate().unwrap().success());
    let mut last = receive_from(&manager);
    while last.0 == "WATCHDOG=1" {
        last = receive_from(&manager);
    }
    assert_eq!(last, ("STOPPING=1".to_owned(), broker));
}

#[test]
fn stopped_broker_sends_no_watchdog_message() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = bind(&address);
    let helper = start_watched(&address);
    assert_eq!(receive(&manager)[0], "READY=1");
    assert_eq!(receive(&manager)[0], "WATCHDOG=1");
    let broker = only_child(helper.pid());
    stop(broker).unwrap();
    // Discards the messages from before the stop.
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 4096]).is_ok() {}
    // Ten times the period of the messages.
    sleep(Duration::from_secs(1));
    let error = manager.recv(&mut [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    manager.set_nonblocking(false).unwrap();
    kill_process(broker, Signal::CONT).unwrap();
    assert_eq!(receive(&manager)[0], "WATCHDOG=1");
}
