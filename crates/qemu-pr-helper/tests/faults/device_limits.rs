// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands that count against `--max-commands-per-device`, and those that do not.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use pr_testkit::cdb::read_keys;
use pr_testkit::hanging_devices::HangingDevices;
use pr_testkit::{TEST_TIMEOUT, TestClient, eventually};
use rustix::fs::{Mode, OFlags};
use scsi_pr::Status;

use crate::Test;
use crate::helper::Helper;
use crate::lingering_sockets::{self, FarEnd};

pub(crate) const TESTS: &[Test] = tests![
    file_with_hidden_attributes_counts,
    files_count_together,
    sockets_and_files_count_together,
    o_path_file_is_not_counted,
    o_path_descriptor_is_not_counted,
];

const LIMIT: usize = 2;

/// Starts a helper that allows [`LIMIT`] commands at a device. A helper with commands that hang
/// does not exit, so what they wait for must be declared after it, and is dropped first.
fn start() -> Helper {
    Helper::start(&["--max-commands-per-device", &LIMIT.to_string()])
}

/// Sends a command for each of these files, each from its own client. Returns the statuses in the
/// order of their arrival.
fn request_concurrently(helper: &Helper, files: Vec<File>) -> Receiver<Status> {
    let (sender, statuses) = channel();
    for file in files {
        let mut client = helper.client();
        client.send(&read_keys(8).cdb, file.as_fd());
        let sender = sender.clone();
        thread::spawn(move || {
            // The helper may have been killed, if the command hangs until the test's end.
            if let Ok(response) = client.receive() {
                let _ = sender.send(response.status);
            }
        });
    }
    statuses
}

/// Reaches the limit with commands that hang until the far ends of their sockets are dropped.
/// Returns the clients and the far ends. Each close has begun, so no later command can get one of
/// these permits.
fn block_closes(helper: &Helper) -> (Vec<TestClient>, Vec<FarEnd>) {
    let hang = |_| {
        let mut client = helper.client();
        let far = lingering_sockets::send_command(&mut client);
        eventually("the close to begin", || far.is_closing().then_some(()));
        (client, far)
    };
    (0..LIMIT).map(hang).unzip()
}

/// Checks that the next `count` replies are BUSY. They arrive while the other commands hang.
#[track_caller]
fn assert_busy(statuses: &Receiver<Status>, count: usize) {
    for _ in 0..count {
        assert_eq!(statuses.recv_timeout(TEST_TIMEOUT), Ok(Status::BUSY));
    }
}

/// The file system does not answer requests for attributes, so the helper must not send any.
fn file_with_hidden_attributes_counts() {
    let helper = start();
    let before = helper.usage();
    let Some(fuse) = HangingDevices::mount() else {
        return;
    };
    let files = (0..LIMIT + 4).map(|_| fuse.open(0)).collect();
    fuse.hide_attributes();
    let statuses = request_concurrently(&helper, files);
    assert_busy(&statuses, 4);
    fuse.wait_for_commands(LIMIT);
    helper.client().assert_served();
    drop(fuse);
    for _ in 0..LIMIT {
        assert_eq!(
            statuses.recv_timeout(TEST_TIMEOUT),
            Ok(Status::CHECK_CONDITION)
        );
    }
    helper.assert_idle(&before);
}

/// A client can create any number of files and file systems, but must not get more commands by
/// that.
fn files_count_together() {
    let helper = start();
    let before = helper.usage();
    let (Some(one), Some(other)) = (HangingDevices::mount(), HangingDevices::mount()) else {
        return;
    };
    let files = (0..LIMIT + 4).map(|number| match number % 2 {
        0 => one.open(number),
        _ => other.open(number),
    });
    let statuses = request_concurrently(&helper, files.collect());
    assert_busy(&statuses, 4);
    helper.client().assert_served();
    drop((one, other));
    for _ in 0..LIMIT {
        assert_eq!(
            statuses.recv_timeout(TEST_TIMEOUT),
            Ok(Status::CHECK_CONDITION)
        );
    }
    helper.assert_idle(&before);
}

/// Sockets with a close that blocks count as files, not as devices.
fn sockets_and_files_count_together() {
    let helper = start();
    let before = helper.usage();
    let (mut clients, far) = block_closes(&helper);
    let file = tempfile::tempfile().unwrap();
    let status = helper.client().execute(&read_keys(8), &file).status;
    assert_eq!(status, Status::BUSY);
    helper.client().assert_served();
    drop(far);
    for client in &mut clients {
        assert_eq!(client.receive().unwrap().status, Status::CHECK_CONDITION);
    }
    drop(clients);
    helper.assert_idle(&before);
}

/// Opening with `O_PATH` requires no permission on a file, so such a command must not use up the
/// limit.
fn o_path_file_is_not_counted() {
    let helper = start();
    let Some(fuse) = HangingDevices::mount() else {
        return;
    };
    let statuses = request_concurrently(&helper, (0..LIMIT).map(|_| fuse.open(0)).collect());
    fuse.wait_for_commands(LIMIT);
    let status = |file| helper.client().execute(&read_keys(8), &file).status;
    assert_eq!(status(fuse.open(0)), Status::BUSY);
    assert_eq!(status(fuse.open_path(0)), Status::CHECK_CONDITION);
    helper.wait_for_log("opened with O_PATH");
    drop(fuse);
    assert_eq!(
        statuses.recv_timeout(TEST_TIMEOUT),
        Ok(Status::CHECK_CONDITION)
    );
}

/// This test does not need FUSE, and so no root: the close of a lingering socket blocks instead.
fn o_path_descriptor_is_not_counted() {
    let helper = start();
    let (_clients, far) = block_closes(&helper);
    let file = tempfile::NamedTempFile::new().unwrap();
    let status = helper
        .client()
        .execute(&read_keys(8), file.as_file())
        .status;
    assert_eq!(status, Status::BUSY);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path: OwnedFd = rustix::fs::open(file.path(), flags, Mode::empty()).unwrap();
    let status = helper
        .client()
        .execute(&read_keys(8), File::from(path))
        .status;
    assert_eq!(status, Status::CHECK_CONDITION);
    drop(far);
}
