// SPDX-License-Identifier: MIT OR Apache-2.0

//! The real helper with a directory of soft LUNs: which files it treats as ports, and its replies.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use pr_helper_protocol::Response;
use pr_testkit::HelperProcess;
use pr_testkit::cdb::{PrCommand, cleanup, clear, read_keys, register, reserve};
use pr_testkit::client::null;
use pr_testkit::helper::Builder;
use pr_testkit::soft_lun::{SoftLunFixture, two_ports};
use scsi_pr::{ReservationType, Sense, Status};
use soft_lun::SupportedFeatures;
use soft_lun::store::Lun;
use tempfile::TempDir;

/// Returns a command that each port answers with GOOD, unless it has a unit attention.
fn read() -> PrCommand {
    read_keys(64)
}

fn builder() -> Builder {
    HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"))
}

/// A helper in a directory with the soft LUN `lun` and its ports `a` and `b`.
struct Fixture {
    helper: HelperProcess,
    soft_lun: SoftLunFixture,
    dir: TempDir,
}

impl Fixture {
    fn new(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let soft_lun = SoftLunFixture::create(dir.path());
        let helper = builder().dir(dir.path()).args(arguments).start().unwrap();
        Fixture {
            helper,
            soft_lun,
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn send(&self, file: &File, command: &PrCommand) -> Response {
        self.helper.client().execute(command, file)
    }

    /// Opens a file and sends a command to it.
    fn execute(&self, name: &str, command: &PrCommand) -> Response {
        self.send(&open(&self.path(name)), command)
    }

    /// Registers both ports and clears through one of them. Returns the other one, which has a unit
    /// attention then.
    fn with_unit_attention(&self) -> &'static str {
        let (a, b) = ("luns/lun/ports/a", "luns/lun/ports/b");
        good(&self.execute(a, &register(0, 0xaa)));
        good(&self.execute(b, &register(0, 0xbb)));
        good(&self.execute(a, &clear(0xaa)));
        b
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[track_caller]
fn good(answer: &Response) -> &[u8] {
    assert_eq!(answer.status, Status::GOOD, "{answer:?}");
    &answer.data
}

/// Returns sense key, additional sense code and qualifier of a CHECK CONDITION.
#[track_caller]
fn sense(answer: &Response) -> (u8, u8, u8) {
    assert_eq!(
        (answer.status, answer.data.len()),
        (Status::CHECK_CONDITION, 0)
    );
    let sense = Sense::decode(&answer.sense).unwrap();
    (sense.key.code(), sense.code.asc, sense.code.ascq)
}

#[test]
fn ports_are_nexuses_of_one_logical_unit() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let (a, b) = ("luns/lun/ports/a", "luns/lun/ports/b");
    for (port, key) in [(a, 0xaa), (b, 0xbb)] {
        let answer = fixture.execute(port, &register(0, key));
        assert!(good(&answer).is_empty());
    }
    good(&fixture.execute(a, &reserve(0xaa, ReservationType::ExclusiveAccess)));
    let rejected = fixture.execute(b, &reserve(0xbb, ReservationType::ExclusiveAccess));
    assert_eq!(rejected.status, Status::RESERVATION_CONFLICT);
    assert_eq!(rejected.sense, [0; 96]);

    let read = fixture.execute(b, &read());
    let expected = [
        &[0, 0, 0, 2, 0, 0, 0, 16][..],
        &0xaa_u64.to_be_bytes(),
        &0xbb_u64.to_be_bytes(),
    ];
    assert_eq!(good(&read), expected.concat());
    // The state file has the registrations.
    let unit = fixture.soft_lun.lun.load().unwrap();
    let keys: Vec<_> = unit
        .registrations()
        .iter()
        .map(|one| one.key.get())
        .collect();
    assert_eq!(keys, [0xaa, 0xbb]);
}

/// A soft LUN has one path: the destination of a migration has preempted its registration already.
#[test]
fn cleanup_leaves_registrations_unchanged() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let port = "luns/lun/ports/a";
    good(&fixture.execute(port, &register(0, 0xaa)));
    let before = fixture.soft_lun.lun.load().unwrap();
    good(&fixture.execute(port, &cleanup()));
    assert_eq!(fixture.soft_lun.lun.load().unwrap(), before);
}

#[test]
fn data_is_limited_by_allocation_length() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let port = "luns/lun/ports/a";
    good(&fixture.execute(port, &register(0, 0xaa)));
    for length in [0, 1, 7, 8, 15, 16, 17] {
        let answer = fixture.execute(port, &read_keys(length));
        assert_eq!(good(&answer).len(), usize::from(length.min(16)));
    }
}

#[test]
fn unit_attention_is_sense_data() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let b = fixture.with_unit_attention();
    assert_eq!(sense(&fixture.execute(b, &read())), (6, 0x2a, 3));
    good(&fixture.execute(b, &read()));
}

#[test]
fn change_through_a_read_only_port_is_rejected() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let port = File::open(fixture.path("luns/lun/ports/a")).unwrap();
    good(&fixture.send(&port, &read()));
    let rejected = fixture.send(&port, &register(0, 0xaa));
    assert_eq!(sense(&rejected), (5, 0x20, 0));
}

#[test]
fn other_files_are_not_ports() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    fs::write(fixture.path("file"), "").unwrap();
    for name in ["file", "luns/lun/lun.json", "luns/lun/lock"] {
        assert_eq!(
            sense(&fixture.execute(name, &read())),
            (0xb, 0, 6),
            "{name}"
        );
    }
    assert_eq!(sense(&fixture.send(&null(), &read())), (0xb, 0, 6));
}

#[test]
fn o_path_descriptor_keeps_the_unit_attention() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let b = fixture.with_unit_attention();
    // O_PATH requires no permission on the file itself.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let path = rustix::fs::open(fixture.path(b), flags, rustix::fs::Mode::empty()).unwrap();
    let rejected = fixture.send(&File::from(path), &read());
    assert_eq!(sense(&rejected), (0xb, 0, 6));
    assert_eq!(sense(&fixture.execute(b, &read())), (6, 0x2a, 3));
}

#[test]
fn unreadable_soft_lun_leaves_other_files() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    // A symbolic link loop, which root cannot open either.
    fs::create_dir(fixture.path("luns/a")).unwrap();
    std::os::unix::fs::symlink("b", fixture.path("luns/b")).unwrap();
    fs::write(fixture.path("file"), "").unwrap();
    assert_eq!(sense(&fixture.execute("file", &read())), (0xb, 0, 6));
    good(&fixture.execute("luns/lun/ports/a", &read()));
    let log = fixture.helper.stderr();
    assert!(
        log.contains("cannot determine whether the file is a port"),
        "{log}"
    );
    assert!(
        log.contains("luns/b: Too many levels of symbolic links"),
        "{log}"
    );
}

#[test]
fn locked_soft_lun_is_busy() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let lock = File::open(fixture.path("luns/lun/lock")).unwrap();
    lock.lock().unwrap();
    let answer = fixture.execute("luns/lun/ports/a", &read());
    assert_eq!(answer.status, Status::BUSY);
    drop(lock);
    good(&fixture.execute("luns/lun/ports/a", &read()));
    let log = fixture.helper.stderr();
    assert!(
        log.contains("answered with BUSY") && log.contains("is locked by another process"),
        "{log}"
    );
}

#[test]
fn port_is_a_plain_file_without_the_option() {
    let fixture = Fixture::new(&[]);
    let rejected = fixture.execute("luns/lun/ports/a", &read());
    assert_eq!(sense(&rejected), (0xb, 0, 6));
}

#[test]
fn corrupt_state_is_a_logged_hardware_error() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    fs::write(fixture.path("luns/lun/state.json"), "{}").unwrap();
    // The rate limit must not hide the error of another soft LUN.
    let other = fixture.path("luns/other");
    Lun::create(&other, two_ports(), SupportedFeatures::default()).unwrap();
    fs::remove_file(fixture.path("luns/other/lun.json")).unwrap();
    for port in ["lun/ports/a", "lun/ports/a", "other/ports/a"] {
        let rejected = fixture.execute(&format!("luns/{port}"), &read());
        assert_eq!(sense(&rejected), (4, 0x44, 0));
    }
    let log = fixture.helper.stderr();
    assert!(log.contains("luns/other is not a soft LUN"), "{log}");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("state.json"))
        .collect();
    let [line] = *lines else { panic!("{log}") };
    assert!(line.contains("luns/lun/state.json is corrupt"), "{line}");
    assert!(line.contains("missing field `format`"), "{line}");
}

#[test]
fn missing_directory_fails_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let helper = builder().dir(dir.path());
    let helper = helper.args(["--soft-luns", "/no/such/directory"]);
    let output = helper.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        log,
        "qemu-pr-helper: --soft-luns: cannot open /no/such/directory: No such file or directory; \
         create the directory, or name another one\n"
    );
    assert!(!dir.path().join("socket").exists());
}
