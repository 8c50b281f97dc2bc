// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors and their advice.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use pr_testkit::skip;
use rustix::process::geteuid;
use rustix::thread::Uid;

use crate::fake::{FakeHelper, Response, check_condition};
use crate::support::{Run, TestHelper, prhctl};

fn run(arguments: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    Run::new(&mut prhctl(dir.path(), arguments), "")
}

/// The error of a standard output that is full.
pub(crate) const NO_SPACE: &str =
    "prhctl: cannot write to standard output: No space left on device\n";

#[test]
fn missing_helper_is_reported() {
    let stderr = run("-k none keys /dev/null").failure(1);
    assert!(
        stderr.starts_with("prhctl: none: cannot connect to the helper: No such file or directory"),
        "{stderr}"
    );
    assert!(
        stderr.contains("Check that the helper is running"),
        "{stderr}"
    );
    assert!(stderr.contains("-k PATH"), "{stderr}");

    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("dead")).unwrap());
    let mut command = prhctl(dir.path(), "-k dead keys /dev/null");
    Run::new(&mut command, "").expect_failure(1, &["Connection refused", "No process listens"]);

    std::fs::write(dir.path().join("file"), "").unwrap();
    let mut command = prhctl(dir.path(), "-k file keys /dev/null");
    Run::new(&mut command, "").expect_failure(1, &["is not a socket"]);
}

/// The helper can create a socket with a path of 108 bytes, but prhctl cannot connect to it.
#[test]
fn long_socket_path_is_reported() {
    let path = "x".repeat(108);
    let stderr = run(&format!("-k {path} keys /dev/null")).failure(1);
    let expected = format!(
        "prhctl: {path}: cannot connect to the helper: the path of the socket is longer than 107 \
         bytes\n  Use a helper whose socket has a shorter path (-k PATH).\n"
    );
    assert_eq!(stderr, expected);
}

#[test]
fn missing_device_is_reported() {
    let stderr = run("-k none keys none").failure(1);
    assert_eq!(
        stderr,
        "prhctl: none: cannot open for reading: No such file or directory\n  \
         List the disks with lsblk -S.\n"
    );
}

#[test]
fn non_scsi_device_is_reported() {
    let helper = TestHelper::start();
    let stderr = helper.run("keys luns/lun/lun.json").failure(11);
    assert!(
        stderr.starts_with(
            "prhctl: luns/lun/lun.json: READ KEYS ended with ABORTED COMMAND, I/O PROCESS \
             TERMINATED (b/00/06)\n  This is not a SCSI device but a file"
        ),
        "{stderr}"
    );
    for (line, status) in [("keys luns/lun", 11), ("register luns/lun --key 1", 1)] {
        helper
            .run(line)
            .expect_failure(status, &["luns/lun/ports/a"]);
    }
    helper
        .run("register /dev/null --key 1")
        .expect_failure(11, &["The device does not accept SCSI commands"]);
}

#[test]
fn damaged_soft_lun_is_reported() {
    let helper = TestHelper::start();
    std::fs::write(helper.path("luns/lun/state.json"), "{").unwrap();
    helper.run("keys a").expect_failure(
        3,
        &[
            "HARDWARE ERROR, INTERNAL TARGET FAILURE",
            "files of the soft LUN are unusable",
        ],
    );
}

#[test]
fn unsupported_command_is_reported() {
    let fake = FakeHelper::start(|_, _| check_condition(5, 0x20, 0x00));
    for line in ["keys disk", "clear disk --key 1"] {
        fake.run(line).expect_failure(
            9,
            &[
                "INVALID COMMAND OPERATION CODE (5/20/00)",
                "a partition or a volume",
            ],
        );
    }
}

#[test]
fn scsi_status_sets_exit_status() {
    for (reply, status, fragment) in [
        (check_condition(2, 0x04, 0x01), 2, "NOT READY"),
        (check_condition(7, 0x27, 0x00), 7, "DATA PROTECT"),
        (check_condition(5, 0x24, 0x00), 5, "'prhctl keys'"),
        (check_condition(0xb, 0x10, 0x01), 40, "ABORTED COMMAND"),
        (
            Response::Status(0x18, vec![], vec![]),
            24,
            "RESERVATION CONFLICT",
        ),
        (Response::Status(0x30, vec![], vec![]), 28, "ACA ACTIVE"),
        (Response::Status(0x40, vec![], vec![]), 29, "TASK ABORTED"),
        (Response::Status(0x42, vec![], vec![]), 99, "status 0x42"),
        (
            Response::Status(0x02, vec![], vec![]),
            98,
            "without valid sense data",
        ),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let fake =
            FakeHelper::start(move |_, _| reply.lock().unwrap().take().unwrap_or(Response::Close));
        fake.run("status disk").expect_failure(status, &[fragment]);
    }
}

#[test]
fn query_retries_after_busy_up_to_limit() {
    let busy = || Response::Status(0x08, Vec::new(), Vec::new());
    let fake = FakeHelper::start(move |_, _| busy());
    fake.run("keys disk").expect_failure(
        26,
        &[
            "READ KEYS ended with BUSY; retrying for a second\n",
            "prhctl retried for a second",
        ],
    );
    assert_eq!(fake.commands().len(), 6);

    // A change may have been executed.
    let fake = FakeHelper::start(move |_, _| busy());
    fake.run("clear disk --key 1")
        .expect_failure(26, &["The command may have been executed"]);
    assert_eq!(fake.commands().len(), 1);

    let full = FakeHelper::start(|number, _| match number {
        0 => Response::Status(0x28, Vec::new(), Vec::new()),
        _ => Response::Data(vec![0; 8]),
    });
    let run = full.run("keys disk");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "disk: generation 0x0, no keys\n")
    );
    assert!(run.stderr.contains("TASK SET FULL; retrying"), "{run:?}");
}

#[test]
fn disconnected_helper_is_reported() {
    let fake = FakeHelper::start(|_, _| Response::Close);
    let stderr = fake.run("keys disk").failure(1);
    assert_eq!(
        stderr,
        "prhctl: disk: READ KEYS: the helper sent no complete response: connection closed\n  Check \
         the helper's log.\n"
    );
    fake.run("clear disk --key 1")
        .expect_failure(1, &["The command may have been executed"]);
}

#[test]
fn foreign_listener_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut command = prhctl(dir.path(), "-k socket keys /dev/null");
    Run::new(&mut command, "").expect_failure(
        1,
        &[
            "did not complete the handshake",
            "not a persistent reservation helper",
        ],
    );
}

#[test]
fn slow_helper_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let mut command = prhctl(dir.path(), "-k socket keys /dev/null");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stderr = child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut line).unwrap();
    assert_eq!(
        line,
        "prhctl: socket: the helper has not answered for 5 seconds; still waiting\n"
    );
    // There is no timeout.
    assert!(child.try_wait().unwrap().is_none());
    drop(listener);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn protocol_violation_is_reported() {
    for (reply, fragment) in [
        (
            Response::Status(0, vec![], vec![0; 2000]),
            "answered with 2000 bytes",
        ),
        (
            Response::Status(0x1_0000, vec![], vec![]),
            "result 65536, which is not a SCSI status",
        ),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let fake =
            FakeHelper::start(move |_, _| reply.lock().unwrap().take().unwrap_or(Response::Close));
        fake.run("keys disk").expect_failure(1, &[fragment]);
    }
    let fake = FakeHelper::start(|_, _| Response::Status(0, vec![], vec![0; 8]));
    fake.run("clear disk --key 1")
        .expect_failure(1, &["executed; check with 'prhctl status'"]);
}

#[test]
fn malformed_data_is_reported() {
    for (line, data) in [
        ("keys disk", vec![0, 0, 0, 1, 0, 0, 0, 7]),
        ("keys disk", vec![]),
        ("reservation disk", vec![0, 0, 0, 1, 0, 0, 0, 16]),
        ("capabilities disk", vec![0; 8]),
        ("status disk", vec![0, 0, 0, 1, 0, 0, 0, 8]),
    ] {
        let fake = FakeHelper::start(move |_, _| Response::Data(data.clone()));
        fake.run(line)
            .expect_failure(97, &["malformed response to "]);
    }
}

#[test]
fn too_many_initiator_ports_are_rejected() {
    let helper = TestHelper::start();
    let ports = " --initiator sas,5000c50005b32001".repeat(341);
    helper
        .run(&format!("register a --key 1{ports}"))
        .expect_failure(1, &["more than the 8192 bytes"]);
}

#[test]
fn closed_stdout_is_not_an_error() {
    let helper = TestHelper::start();
    let mut command = helper.prhctl("keys a");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &[][..])
    );

    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = helper.prhctl("keys a").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, NO_SPACE);

    // Only the exit status shows an error if standard error is closed too.
    let mut command = helper.prhctl("keys none");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// A process of another user that listens on the socket receives the open disk.
#[test]
fn helper_of_other_user_is_noted() {
    if !geteuid().is_root() {
        return skip("not root, so no helper can listen as another user");
    }
    let fake = FakeHelper::start_as(Some(Uid::from_raw(65534)), |_, _| {
        Response::Data([0, 0, 0, 7, 0, 0, 0, 0].to_vec())
    });
    let run = fake.run("keys disk");
    assert_eq!((run.status, run.stdout.lines().count()), (0, 1), "{run:?}");
    let process = std::process::id();
    let expected = format!(
        "prhctl: socket: listener (process {process}, user 65534) is neither root nor user 0; it \
         receives the open device disk\n"
    );
    assert_eq!(run.stderr, expected);

    // A change passes a file descriptor that is open for writing.
    let rejected = FakeHelper::start_as(Some(Uid::from_raw(65534)), |_, _| {
        check_condition(5, 0x20, 0)
    });
    let run = rejected.run("clear --key 1 disk");
    assert!(run.stderr.starts_with(&expected), "{run:?}");
}

#[test]
fn helper_of_same_user_is_not_noted() {
    let fake = FakeHelper::start(|_, _| Response::Data([0, 0, 0, 7, 0, 0, 0, 0].to_vec()));
    fake.run("keys disk").success();
}
