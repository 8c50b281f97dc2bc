// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state document of the real helper, and its event journal.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::thread;

use helper_state::{Event, Record, StateDocument, VERSION, socket_name};
use pr_testkit::cdb::{preempt, read_keys, register, reserve};
use pr_testkit::helper::Builder;
use pr_testkit::soft_lun::SoftLunFixture;
use pr_testkit::{HelperProcess, skip};
use rustix::process::{Uid, geteuid};
use scsi_pr::{ReservationType, Status};

const TYPE: ReservationType = ReservationType::WriteExclusive;

fn builder() -> Builder {
    HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"))
}

/// Returns what the helper writes to a connection to its state socket.
fn read_state(helper: &HelperProcess) -> io::Result<String> {
    let pid = helper.pid().as_raw_nonzero().get().cast_unsigned();
    let address = SocketAddr::from_abstract_name(socket_name(pid))?;
    let mut text = String::new();
    UnixStream::connect_addr(&address)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Returns what another user gets.
fn read_state_as(helper: &HelperProcess, user: u32) -> String {
    thread::scope(|scope| {
        let read = scope.spawn(|| {
            let user = Uid::from_raw(user);
            // For this thread only.
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            read_state(helper)
        });
        read.join().unwrap().unwrap()
    })
}

fn state(helper: &HelperProcess) -> StateDocument {
    serde_json::from_str(&read_state(helper).unwrap()).unwrap()
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn document_contains_what_clients_did() {
    let dir = tempfile::tempdir().unwrap();
    let lun = SoftLunFixture::create(dir.path());
    let luns = ["--soft-luns", "luns"];
    let helper = builder().dir(dir.path()).args(luns).start().unwrap();
    let ports = ["a", "b"].map(|name| open(&lun.port(name)));
    let mut clients = [helper.client(), helper.client()];
    for (node, command, status) in [
        (0, register(0, 0xa), Status::GOOD),
        (0, reserve(0xa, TYPE), Status::GOOD),
        (1, register(0, 0xb), Status::GOOD),
        (1, reserve(0xb, TYPE), Status::RESERVATION_CONFLICT),
        (1, preempt(0xb, 0xa, TYPE), Status::GOOD),
        (0, read_keys(64), Status::CHECK_CONDITION),
    ] {
        let response = clients[node].execute(&command, &ports[node]);
        assert_eq!(response.status, status);
    }
    let found = state(&helper);
    assert_eq!(found.version, VERSION);
    assert_eq!(found.helper.socket.as_deref(), helper.socket().to_str());
    let commands: Vec<_> = found.clients.iter().map(|client| client.commands).collect();
    assert_eq!(commands, [3, 3]);
    let [disk] = found.disks.as_slice() else {
        panic!("{:?}", found.disks);
    };
    assert!(disk.device.ends_with("/luns/lun"), "{}", disk.device);
    let keys: Vec<_> = disk
        .registrations
        .iter()
        .map(|one| one.key.as_str())
        .collect();
    assert_eq!(keys, ["0xb"]);
    assert_eq!(disk.reservation.as_ref().unwrap().key, "0xb");
    let events: Vec<_> = found
        .journal
        .records
        .iter()
        .map(|record| record.event)
        .collect();
    let change = Event::Change;
    assert_eq!(
        events,
        [
            change,
            change,
            change,
            Event::Conflict,
            change,
            Event::Attention
        ]
    );
    let count: u64 = found.statistics.iter().map(|entry| entry.count).sum();
    assert_eq!(count, 6);
}

#[test]
fn commands_of_disconnected_clients_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let helper = builder().dir(dir.path()).start().unwrap();
    let null = pr_testkit::client::null();
    for _ in 0..3 {
        helper.client().execute(&read_keys(64), &null);
    }
    let mut last = helper.client();
    last.execute(&read_keys(64), &null);
    while state(&helper).clients.len() > 1 {
        thread::yield_now();
    }
    let statistics = state(&helper).statistics;
    let count: u64 = statistics.iter().map(|entry| entry.count).sum();
    assert_eq!(count, 4, "{statistics:?}");
}

/// Without maps there is nothing to check, so no thread remains for that. It would have the name of
/// the thread that has started it.
#[test]
fn reading_the_state_starts_no_thread() {
    let helper = builder().start().unwrap();
    state(&helper);
    let threads = fs::read_dir(format!("/proc/{}/task", helper.pid())).unwrap();
    // Threads that serve clients come and go.
    let names =
        threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    assert_eq!(names.filter(|name| name == "state\n").count(), 1);
}

#[test]
fn other_users_get_no_document() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let helper = builder().dir(dir.path()).start().unwrap();
    assert_eq!(read_state_as(&helper, 4711), "");
    assert!(read_state_as(&helper, 0).starts_with('{'));
    drop(helper);
    let arguments = ["--state-user", "4711"];
    let helper = builder().dir(dir.path()).args(arguments).start().unwrap();
    assert!(read_state_as(&helper, 4711).starts_with('{'));
}

#[test]
fn journal_is_written_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let lun = SoftLunFixture::create(dir.path());
    let path = dir.path().join("journal");
    let arguments = ["--soft-luns", "luns", "--journal", path.to_str().unwrap()];
    let helper = builder().dir(dir.path()).args(arguments).start().unwrap();
    let port = open(&lun.port("a"));
    let mut client = helper.client();
    for key in 0..50 {
        assert_eq!(
            client.execute(&register(key, key + 1), &port).status,
            Status::GOOD
        );
    }
    let records = || -> Vec<Record> {
        let text = fs::read_to_string(&path).unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    while records().len() < 50 {
        thread::yield_now();
    }
    let keys: Vec<_> = records()
        .into_iter()
        .map(|record| record.service_action_key)
        .collect();
    let expected: Vec<_> = (1..=50).map(|key| Some(format!("{key:#x}"))).collect();
    assert_eq!(keys, expected);
    assert_eq!(state(&helper).journal.records, records());
}
