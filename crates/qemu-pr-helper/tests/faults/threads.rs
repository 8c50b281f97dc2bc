//! A helper that gets no more threads, while devices hang.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use rustix::process::{Resource, geteuid, getrlimit};
use scsi_pr::Status;

use crate::Test;
use crate::client::{Client, READ_KEYS, null};
use crate::helper::{Helper, PATIENCE, wait_for};
use crate::stuck::{self, Stuck};

pub(crate) const TESTS: &[Test] = &[
    ("the_last_one_answers_busy", the_last_one_answers_busy),
    (
        "requests_without_a_thread_take_no_memory",
        requests_without_a_thread_take_no_memory,
    ),
];

/// A user without rights, who has no other processes: root is not bound by this limit.
const AS_NOBODY: &[&str] = &["setpriv", "--reuid", "54322", "--clear-groups"];

/// No thread for a user who has a process.
const NONE: Option<u64> = Some(1);

/// What makes a command that of the helper's user.
fn wrapper() -> &'static [&'static str] {
    match geteuid().is_root() {
        true => AS_NOBODY,
        false => &[],
    }
}

/// Lets the helper's user have so many threads, or any number. Another user may not do that without a capability.
fn allow(helper: &Helper, threads: Option<u64>) {
    let process = helper.process().as_raw_nonzero();
    let threads = threads.map_or_else(|| "unlimited".to_owned(), |threads| threads.to_string());
    let limit = format!("prlimit --pid {process} --nproc={threads}:");
    let words: Vec<_> = wrapper().iter().copied().chain(limit.split(' ')).collect();
    let (program, arguments) = words.split_first().unwrap();
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success());
}

/// Whether an answer comes while one looks.
fn has_answer(client: &mut Client) -> bool {
    let look = Duration::from_millis(500);
    client.0.set_read_timeout(Some(look)).unwrap();
    let answer = client.answer();
    client.0.set_read_timeout(Some(PATIENCE)).unwrap();
    match answer {
        Ok(status) => {
            assert_eq!(status, Status::BUSY);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}

/// Blocks all threads of a helper but the last, which is allowed no other. Takes clients for that;
/// returns the clients that wait, the last of which was answered BUSY, and their devices' far ends.
fn block_all_but_one(helper: &Helper, clients: &mut Vec<Client>) -> (Vec<Client>, Vec<Stuck>) {
    allow(helper, NONE);
    let (mut far, mut waiting) = (Vec::new(), Vec::new());
    wait_for("an answer by the last thread", || {
        let mut client = clients.pop().unwrap();
        far.push(stuck::ask(&mut client));
        let has_answer = has_answer(&mut client);
        waiting.push(client);
        has_answer.then_some(())
    });
    (waiting, far)
}

fn the_last_one_answers_busy() {
    let helper = Helper::start_under(wrapper(), &[]);
    let before = helper.usage();
    let mut beside = helper.client();
    beside.is_served();
    let mut clients: Vec<_> = (0..32).map(|_| helper.client()).collect();
    let (mut hanging, mut far) = block_all_but_one(&helper, &mut clients);
    let mut refused = hanging.pop().unwrap();
    assert_eq!(beside.try_ask(READ_KEYS, &null()).unwrap(), Status::BUSY);
    // The descriptors of what was answered with BUSY are not closed yet. Before they are, nothing
    // more is read from their clients.
    for client in [&mut beside, &mut refused] {
        client.send(&READ_KEYS, null().as_fd());
        assert!(!has_answer(client));
    }
    helper.says("cannot start a thread, commands are answered with BUSY");
    let mut next = Client::connect(&helper.socket());
    next.hears_nothing_for(Duration::from_secs(2));
    helper.says("accepting connections paused: no thread can be started");
    helper.does_not_spin();

    allow(&helper, getrlimit(Resource::Nproc).maximum);
    for client in [&mut beside, &mut refused] {
        client.answer().unwrap();
        client.is_served();
    }
    let mut next = next.greeted();
    // The close that the last thread had deferred takes a thread now, and no more than that.
    far.push(stuck::ask(&mut next));
    beside.is_served();
    drop(far);
    hanging.push(next);
    for client in &mut hanging {
        client.answer().unwrap();
        client.is_served();
    }
    drop((beside, refused, hanging, clients));
    helper.is_at_rest_as(&before);
}

fn requests_without_a_thread_take_no_memory() {
    /// Requests that each client sends, whether or not they are read.
    const REQUESTS: usize = 2000;
    /// KiB. The requests of one client have 16 MiB of parameters.
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
    helper.usage().has_grown_little_since(&blocked, GROWTH);
    allow(&helper, getrlimit(Resource::Nproc).maximum);
    drop((far, waiting, clients, flooding));
    helper.is_at_rest_as(&before);
}

/// Sends requests of the greatest length until as many are sent, or the helper does not read them.
fn flood(client: &Client, count: usize) {
    const LONGEST: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
    let null = null();
    let mut socket = &client.0;
    socket
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    for _ in 0..count {
        let sent = fd_passing::send(socket.as_fd(), &LONGEST, null.as_fd());
        let sent = sent.and_then(|()| socket.write_all(&[0; 8192]));
        if sent.is_err() {
            return;
        }
    }
}
