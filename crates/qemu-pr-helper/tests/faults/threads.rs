// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that cannot start more threads while devices hang.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use pr_testkit::cdb::read_keys;
use pr_testkit::client::null;
use pr_testkit::{TestClient, eventually};
use rustix::process::{Resource, geteuid, getrlimit};
use scsi_pr::Status;

use crate::Test;
use crate::helper::Helper;
use crate::lingering_sockets::{self, FarEnd};

pub(crate) const TESTS: &[Test] = tests![
    last_thread_answers_busy,
    requests_without_a_thread_take_no_memory,
];

/// Command prefix that runs as a user without other processes: the limit does not apply to root.
const AS_OTHER_USER: &[&str] = &["setpriv", "--reuid", "54322", "--clear-groups"];

/// Limit at which no thread can be started, because the user has a process.
const NO_THREADS: Option<u64> = Some(1);

/// Returns the command prefix that runs as the helper's user.
fn wrapper() -> &'static [&'static str] {
    match geteuid().is_root() {
        true => AS_OTHER_USER,
        false => &[],
    }
}

/// Sets the thread limit of the helper's user; `None` is unlimited. Another user would need a
/// capability for that.
fn set_thread_limit(helper: &Helper, threads: Option<u64>) {
    let process = helper.pid().as_raw_nonzero();
    let threads = threads.map_or_else(|| "unlimited".to_owned(), |threads| threads.to_string());
    let limit = format!("prlimit --pid {process} --nproc={threads}:");
    let words: Vec<_> = wrapper().iter().copied().chain(limit.split(' ')).collect();
    let (program, arguments) = words.split_first().unwrap();
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success());
}

/// Sends a command for a lingering socket. Returns the far end, and whether the reply is BUSY. The
/// other possibility is that the close blocks a thread.
fn block_thread(client: &mut TestClient) -> (FarEnd, bool) {
    let far = lingering_sockets::send_command(client);
    client.stream.set_nonblocking(true).unwrap();
    let is_busy = eventually("BUSY or a close", || match client.receive() {
        Ok(response) => {
            assert_eq!(response.status, Status::BUSY);
            Some(true)
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            far.is_closing().then_some(false)
        }
    });
    client.stream.set_nonblocking(false).unwrap();
    (far, is_busy)
}

/// Blocks all threads of a helper but the last, which cannot start another one. Takes clients for
/// that. Returns the clients that wait, the last of which got BUSY, and the far ends of their
/// sockets.
fn block_all_but_one(
    helper: &Helper,
    clients: &mut Vec<TestClient>,
) -> (Vec<TestClient>, Vec<FarEnd>) {
    set_thread_limit(helper, NO_THREADS);
    let (mut far, mut waiting) = (Vec::new(), Vec::new());
    eventually("BUSY by the last thread", || {
        let mut client = clients.pop().unwrap();
        let (far_end, is_busy) = block_thread(&mut client);
        far.push(far_end);
        waiting.push(client);
        is_busy.then_some(())
    });
    (waiting, far)
}

fn last_thread_answers_busy() {
    let helper = Helper::start_under(wrapper(), &[]);
    let before = helper.usage();
    let mut other_client = helper.client();
    other_client.assert_served();
    let mut clients: Vec<_> = (0..32).map(|_| helper.client()).collect();
    let (mut hanging, mut far) = block_all_but_one(&helper, &mut clients);
    let mut rejected = hanging.pop().unwrap();
    assert_eq!(
        other_client.execute(&read_keys(8), null()).status,
        Status::BUSY
    );
    // The descriptors of the commands that got BUSY are not closed yet. Until they are, nothing
    // more is read from their clients.
    for client in [&mut other_client, &mut rejected] {
        client.send(&read_keys(8).cdb, null().as_fd());
        client.assert_silent_for(Duration::from_millis(500));
    }
    helper.wait_for_log("cannot start a thread, commands are answered with BUSY");
    let mut next = helper.connect();
    next.assert_silent_for(Duration::from_secs(2));
    helper.wait_for_log("accepting connections paused: no thread can be started");
    helper.assert_low_cpu();

    set_thread_limit(&helper, getrlimit(Resource::Nproc).maximum);
    for client in [&mut other_client, &mut rejected] {
        client.receive().unwrap();
        client.assert_served();
    }
    let mut next = next.handshake();
    // The deferred close blocks one thread now, and no more than that.
    far.push(lingering_sockets::send_command(&mut next));
    other_client.assert_served();
    drop(far);
    hanging.push(next);
    for client in &mut hanging {
        client.receive().unwrap();
        client.assert_served();
    }
    drop((other_client, rejected, hanging, clients));
    helper.assert_idle(&before);
}

fn requests_without_a_thread_take_no_memory() {
    /// Number of requests that each client sends, whether or not they are read.
    const REQUESTS: usize = 2000;
    /// Maximum growth in KiB. The requests of one client have 16 MiB of parameters.
    const GROWTH: u64 = 4096;
    let helper = Helper::start_under(wrapper(), &[]);
    let before = helper.usage();
    let mut clients: Vec<_> = (0..40).map(|_| helper.client()).collect();
    let flooding = clients.split_off(32);
    let (waiting, far) = block_all_but_one(&helper, &mut clients);
    let blocked = helper.usage();
    thread::scope(|scope| {
        for client in &flooding {
            scope.spawn(|| flood(client, REQUESTS));
        }
    });
    helper.usage().assert_growth_below(&blocked, GROWTH);
    set_thread_limit(&helper, getrlimit(Resource::Nproc).maximum);
    drop((far, waiting, clients, flooding));
    helper.assert_idle(&before);
}

/// Sends requests of the maximum length, until `count` are sent or the helper stops reading.
fn flood(client: &TestClient, count: usize) {
    const MAX_REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
    let null = null();
    let mut socket = &client.stream;
    socket
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    for _ in 0..count {
        let sent = fd_passing::send(socket.as_fd(), &MAX_REGISTER, null.as_fd());
        let sent = sent.and_then(|()| socket.write_all(&[0; 8192]));
        if sent.is_err() {
            return;
        }
    }
}
