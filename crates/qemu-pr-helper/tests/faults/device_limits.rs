//! What `--max-commands-per-device` counts, and what is answered before anything is counted.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::fs::{Mode, OFlags};
use scsi_pr::Status;

use crate::Test;
use crate::client::READ_KEYS;
use crate::fuse::Fuse;
use crate::helper::{Helper, PATIENCE, wait_for};
use crate::stuck;

pub(crate) const TESTS: &[Test] = &[
    (
        "file_with_hidden_attributes_counts",
        file_with_hidden_attributes_counts,
    ),
    ("files_count_together", files_count_together),
    (
        "sockets_and_files_count_together",
        sockets_and_files_count_together,
    ),
    ("o_path_file_is_not_counted", o_path_file_is_not_counted),
    (
        "o_path_descriptor_is_not_counted",
        o_path_descriptor_is_not_counted,
    ),
];

const LIMIT: usize = 2;

/// Starts a helper that lets [`LIMIT`] commands be in progress at a device. A helper whose commands
/// hang does not end: what hangs must be declared after it, so that it is dropped first.
fn start() -> Helper {
    Helper::start(&["--max-commands-per-device", &LIMIT.to_string()])
}

/// Sends a command for each of these files, by clients of their own. Returns the answers in the
/// order in which they come.
fn ask_at_once(helper: &Helper, files: Vec<File>) -> Receiver<Status> {
    let (sender, answers) = channel();
    for file in files {
        let mut client = helper.client();
        client.send(&READ_KEYS, file.as_fd());
        let sender = sender.clone();
        thread::spawn(move || {
            // A client whose command hangs until the test's end can find the helper gone.
            if let Ok(status) = client.answer() {
                let _ = sender.send(status);
            }
        });
    }
    answers
}

/// Checks that so many of the answers are BUSY, and come while the others' commands hang.
#[track_caller]
fn are_busy(answers: &Receiver<Status>, count: usize) {
    for _ in 0..count {
        assert_eq!(answers.recv_timeout(PATIENCE), Ok(Status::BUSY));
    }
}

/// The file system does not tell the helper what the file is, so the helper must not ask.
fn file_with_hidden_attributes_counts() {
    let helper = start();
    let before = helper.usage();
    let Some(fuse) = Fuse::mount() else { return };
    let files = (0..LIMIT + 4).map(|_| fuse.open(0)).collect();
    fuse.hide_attributes();
    let answers = ask_at_once(&helper, files);
    are_busy(&answers, 4);
    fuse.wait_for_commands(LIMIT);
    helper.client().is_served();
    drop(fuse);
    for _ in 0..LIMIT {
        assert_eq!(answers.recv_timeout(PATIENCE), Ok(Status::CHECK_CONDITION));
    }
    helper.is_at_rest_as(&before);
}

/// A client can make any number of files and file systems, and gets no more commands by them.
fn files_count_together() {
    let helper = start();
    let before = helper.usage();
    let (Some(one), Some(other)) = (Fuse::mount(), Fuse::mount()) else {
        return;
    };
    let files = (0..LIMIT + 4).map(|number| match number % 2 {
        0 => one.open(number),
        _ => other.open(number),
    });
    let answers = ask_at_once(&helper, files.collect());
    are_busy(&answers, 4);
    helper.client().is_served();
    drop((one, other));
    for _ in 0..LIMIT {
        assert_eq!(answers.recv_timeout(PATIENCE), Ok(Status::CHECK_CONDITION));
    }
    helper.is_at_rest_as(&before);
}

/// Sockets whose close hangs count with files, and leave devices their places.
fn sockets_and_files_count_together() {
    let helper = start();
    let before = helper.usage();
    let mut stuck = Vec::new();
    let mut clients: Vec<_> = (0..LIMIT).map(|_| helper.client()).collect();
    for client in &mut clients {
        stuck.push(stuck::ask(client));
    }
    let file = tempfile::tempfile().unwrap();
    wait_for("BUSY for a file", || {
        let status = helper.client().try_ask(READ_KEYS, &file).unwrap();
        (status == Status::BUSY).then_some(())
    });
    helper.client().is_served();
    drop(stuck);
    for client in &mut clients {
        assert_eq!(client.answer().unwrap(), Status::CHECK_CONDITION);
    }
    drop(clients);
    helper.is_at_rest_as(&before);
}

/// A client needs no permission on a file for such a descriptor, so it must not take another
/// client's place.
fn o_path_file_is_not_counted() {
    let helper = start();
    let Some(fuse) = Fuse::mount() else { return };
    let answers = ask_at_once(&helper, (0..LIMIT).map(|_| fuse.open(0)).collect());
    fuse.wait_for_commands(LIMIT);
    let status = |file| helper.client().try_ask(READ_KEYS, &file).unwrap();
    assert_eq!(status(fuse.open(0)), Status::BUSY);
    assert_eq!(status(fuse.open_path(0)), Status::CHECK_CONDITION);
    helper.says("opened with O_PATH");
    drop(fuse);
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(Status::CHECK_CONDITION));
}

/// The same without FUSE, which takes root: a lingering socket hangs when the helper closes it.
fn o_path_descriptor_is_not_counted() {
    let helper = start();
    let mut clients: Vec<_> = (0..LIMIT).map(|_| helper.client()).collect();
    let mut stuck = Vec::new();
    for client in &mut clients {
        stuck.push(stuck::ask(client));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    wait_for("BUSY for a file", || {
        let status = helper.client().try_ask(READ_KEYS, file.as_file()).unwrap();
        (status == Status::BUSY).then_some(())
    });
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path: OwnedFd = rustix::fs::open(file.path(), flags, Mode::empty()).unwrap();
    let status = helper
        .client()
        .try_ask(READ_KEYS, &File::from(path))
        .unwrap();
    assert_eq!(status, Status::CHECK_CONDITION);
    drop(stuck);
}
