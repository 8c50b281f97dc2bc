// SPDX-License-Identifier: MIT OR Apache-2.0

//! The identity of client processes, by which connections are counted.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{getsockopt, sockopt};
use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use pr_testkit::skip;
use rustix::fs::fstatfs;
use rustix::process::geteuid;

use crate::Test;
use crate::helper::Helper;
use crate::other_processes::{OtherProcess, Task};

pub(crate) const TESTS: &[Test] = tests![
    processes_of_another_pid_namespace_are_counted,
    reused_pid_is_another_process,
];

/// The last process ID that the kernel has assigned; the next process gets the following one.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Returns whether the kernel has unique inode numbers of process descriptors (since Linux 6.9).
/// Without these, processes are told apart less well.
fn has_unique_pidfds() -> bool {
    let (socket, _peer) = UnixStream::pair().unwrap();
    let pidfd = getsockopt(&socket, sockopt::PeerPidfd);
    pidfd.is_ok_and(|pidfd| fstatfs(pidfd).unwrap().f_type == 0x5049_4446)
}

/// Returns whether the helper rejects a connection of this process.
fn is_rejected(helper: &Helper) -> bool {
    let mut client = helper.connect();
    match client.receive_greeting() {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            true
        }
    }
}

fn processes_of_another_pid_namespace_are_counted() {
    if !geteuid().is_root() {
        return skip("not root: no PID namespace for the helper");
    }
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
    let helper = Helper::start_under(&wrapper, &["-v", "--max-clients-per-process", "2"]);
    let clients = [(); 2].map(|()| helper.client());
    helper.wait_for_log("(pid 0, uid 0)");
    assert!(is_rejected(&helper));
    match has_unique_pidfds() {
        true => OtherProcess::start(helper.socket(), Task::Idle(2)).wait_until_done(),
        false => skip("kernel older than 6.9: processes of a namespace are counted by user"),
    }
    drop(clients);
}

fn reused_pid_is_another_process() {
    // Every user can open the file, but not write to it.
    let last = fs::read(LAST_PID).and_then(|last| fs::write(LAST_PID, last));
    if let Err(error) = last {
        return skip(&format!("process IDs cannot be chosen: {error}"));
    }
    let helper = Helper::start(&["--max-clients-per-process", "2"]);
    if !has_unique_pidfds() {
        return skip("kernel older than 6.9: processes are told apart by their IDs");
    }
    // A process that has ended, while its connections are still open.
    let path = helper.dir().join("connections");
    let listener = UnixListener::bind(&path).unwrap();
    let mut ended = OtherProcess::start(helper.socket(), Task::PassConnections(2));
    let mut given = listener.accept().unwrap().0;
    let connections = [(); 2].map(|()| {
        let received = fd_passing::receive(given.as_fd(), &mut [0], ReceiveMode::Wait);
        match received.unwrap() {
            (1, ReceivedFds::One(connection)) => connection,
            other => panic!("{other:?}"),
        }
    });
    given.read_to_end(&mut Vec::new()).unwrap();
    let pid = ended.pid();
    ended.wait();

    // Another process may get the ID first, so there are several attempts.
    let same = (0..100).find_map(|_| {
        fs::write(LAST_PID, (pid - 1).to_string()).unwrap();
        let others = OtherProcess::start(helper.socket(), Task::Idle(2));
        (others.pid() == pid).then_some(others)
    });
    let Some(mut same) = same else {
        return skip("another process has the process ID");
    };
    same.wait_until_done();
    drop(connections);
}
