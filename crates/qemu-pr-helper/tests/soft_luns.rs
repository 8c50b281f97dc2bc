//! The real helper with a directory of soft LUNs: which files it treats as ports, and its replies.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pr_helper_protocol::Response;
use pr_helper_protocol::client::Client;
use scsi_pr::{Sense, Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};
use tempfile::TempDir;

const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0];
const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
const RESERVE_EXCLUSIVE: [u8; 16] = [0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

/// Returns the basic parameter list of PERSISTENT RESERVE OUT.
fn keys(key: u64, action_key: u64) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
    list.resize(24, 0);
    list
}

/// A helper in a directory with the soft LUN `lun` and its ports `a` and `b`.
struct Fixture {
    dir: TempDir,
    helper: Child,
}

impl Fixture {
    fn new(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = |name: &str, sas_address| Port {
            name: name.parse().unwrap(),
            nexus: Nexus {
                initiator: TransportId::Sas { sas_address },
                target_port: 1.into(),
            },
        };
        let ports = vec![port("a", 0xa), port("b", 0xb)];
        fs::create_dir(dir.path().join("luns")).unwrap();
        Lun::create(
            &dir.path().join("luns/lun"),
            ports,
            SupportedFeatures::default(),
        )
        .unwrap();
        let helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .current_dir(dir.path())
            .arg("-k")
            .arg(dir.path().join("socket"))
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Fixture { dir, helper }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lun(&self) -> Lun {
        Lun::open(&self.path("luns/lun")).unwrap()
    }

    fn send(&self, file: &File, cdb: [u8; 16], list: &[u8]) -> Response {
        let start = Instant::now();
        let mut client = loop {
            match Client::connect(&self.path("socket")) {
                Ok(client) => break client,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error:?}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        client.execute(cdb, file.as_fd(), list).unwrap()
    }

    /// Opens a file and sends a command to it.
    fn execute(&self, name: &str, cdb: [u8; 16], list: &[u8]) -> Response {
        self.send(&open(&self.path(name)), cdb, list)
    }

    /// Registers both ports and clears through one of them. Returns the other one, which has a unit
    /// attention then.
    fn with_unit_attention(&self) -> &'static str {
        const CLEAR: [u8; 16] = [0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
        let (a, b) = ("luns/lun/ports/a", "luns/lun/ports/b");
        good(&self.execute(a, REGISTER, &keys(0, 0xaa)));
        good(&self.execute(b, REGISTER, &keys(0, 0xbb)));
        good(&self.execute(a, CLEAR, &keys(0xaa, 0)));
        b
    }

    /// Kills the helper and returns its log.
    fn log(mut self) -> String {
        self.helper.kill().unwrap();
        let mut text = String::new();
        self.helper
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        self.helper.wait().unwrap();
        text
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Fails if the helper has exited.
        let _ = self.helper.kill();
        let _ = self.helper.wait();
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
        let answer = fixture.execute(port, REGISTER, &keys(0, key));
        assert!(good(&answer).is_empty());
    }
    good(&fixture.execute(a, RESERVE_EXCLUSIVE, &keys(0xaa, 0)));
    let rejected = fixture.execute(b, RESERVE_EXCLUSIVE, &keys(0xbb, 0));
    assert_eq!(rejected.status, Status::RESERVATION_CONFLICT);
    assert_eq!(rejected.sense, [0; 96]);

    let read = fixture.execute(b, READ_KEYS, &[]);
    let expected = [
        &[0, 0, 0, 2, 0, 0, 0, 16][..],
        &0xaa_u64.to_be_bytes(),
        &0xbb_u64.to_be_bytes(),
    ];
    assert_eq!(good(&read), expected.concat());
    // The state file has the registrations.
    let unit = fixture.lun().load().unwrap();
    let keys: Vec<_> = unit
        .registrations()
        .iter()
        .map(|one| one.key.get())
        .collect();
    assert_eq!(keys, [0xaa, 0xbb]);
}

#[test]
fn data_is_limited_by_allocation_length() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let port = "luns/lun/ports/a";
    good(&fixture.execute(port, REGISTER, &keys(0, 0xaa)));
    for length in [0, 1, 7, 8, 15, 16, 17] {
        let mut cdb = READ_KEYS;
        cdb[8] = length;
        let answer = fixture.execute(port, cdb, &[]);
        assert_eq!(good(&answer).len(), usize::from(length.min(16)));
    }
}

#[test]
fn unit_attention_is_sense_data() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let b = fixture.with_unit_attention();
    assert_eq!(sense(&fixture.execute(b, READ_KEYS, &[])), (6, 0x2a, 3));
    good(&fixture.execute(b, READ_KEYS, &[]));
}

#[test]
fn change_through_a_read_only_port_is_rejected() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let port = File::open(fixture.path("luns/lun/ports/a")).unwrap();
    good(&fixture.send(&port, READ_KEYS, &[]));
    let rejected = fixture.send(&port, REGISTER, &keys(0, 0xaa));
    assert_eq!(sense(&rejected), (5, 0x20, 0));
}

#[test]
fn other_files_are_not_ports() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    fs::write(fixture.path("file"), "").unwrap();
    for name in ["file", "luns/lun/lun.json", "luns/lun/lock"] {
        assert_eq!(
            sense(&fixture.execute(name, READ_KEYS, &[])),
            (0xb, 0, 6),
            "{name}"
        );
    }
    assert_eq!(
        sense(&fixture.send(&open("/dev/null".as_ref()), READ_KEYS, &[])),
        (0xb, 0, 6)
    );
}

#[test]
fn o_path_descriptor_keeps_the_unit_attention() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    let b = fixture.with_unit_attention();
    // O_PATH requires no permission on the file itself.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let path = rustix::fs::open(fixture.path(b), flags, rustix::fs::Mode::empty()).unwrap();
    let rejected = fixture.send(&File::from(path), READ_KEYS, &[]);
    assert_eq!(sense(&rejected), (0xb, 0, 6));
    assert_eq!(sense(&fixture.execute(b, READ_KEYS, &[])), (6, 0x2a, 3));
}

#[test]
fn unreadable_soft_lun_leaves_other_files() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    // A symbolic link loop, which root cannot open either.
    fs::create_dir(fixture.path("luns/a")).unwrap();
    std::os::unix::fs::symlink("b", fixture.path("luns/b")).unwrap();
    fs::write(fixture.path("file"), "").unwrap();
    assert_eq!(sense(&fixture.execute("file", READ_KEYS, &[])), (0xb, 0, 6));
    good(&fixture.execute("luns/lun/ports/a", READ_KEYS, &[]));
    let log = fixture.log();
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
    let answer = fixture.execute("luns/lun/ports/a", READ_KEYS, &[]);
    assert_eq!(answer.status, Status::BUSY);
    drop(lock);
    good(&fixture.execute("luns/lun/ports/a", READ_KEYS, &[]));
    let log = fixture.log();
    assert!(
        log.contains("answered with BUSY") && log.contains("is locked by another process"),
        "{log}"
    );
}

#[test]
fn port_is_a_plain_file_without_the_option() {
    let fixture = Fixture::new(&[]);
    let rejected = fixture.execute("luns/lun/ports/a", READ_KEYS, &[]);
    assert_eq!(sense(&rejected), (0xb, 0, 6));
}

#[test]
fn corrupt_state_is_a_logged_hardware_error() {
    let fixture = Fixture::new(&["--soft-luns", "luns"]);
    fs::write(fixture.path("luns/lun/state.json"), "{}").unwrap();
    // The rate limit must not hide the error of another soft LUN.
    let ports = Lun::open(&fixture.path("luns/lun"))
        .unwrap()
        .config()
        .unwrap()
        .ports;
    Lun::create(
        &fixture.path("luns/other"),
        ports,
        SupportedFeatures::default(),
    )
    .unwrap();
    fs::remove_file(fixture.path("luns/other/lun.json")).unwrap();
    for port in ["lun/ports/a", "lun/ports/a", "other/ports/a"] {
        let rejected = fixture.execute(&format!("luns/{port}"), READ_KEYS, &[]);
        assert_eq!(sense(&rejected), (4, 0x44, 0));
    }
    let log = fixture.log();
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
    let output = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .arg("-k")
        .arg(dir.path().join("socket"))
        .args(["--soft-luns", "/no/such/directory"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        log,
        "qemu-pr-helper: cannot open /no/such/directory: No such file or directory (os error 2)\n"
    );
    assert!(!dir.path().join("socket").exists());
}
