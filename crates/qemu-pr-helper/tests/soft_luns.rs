//! The real helper with a folder of soft LUNs: what it takes for a port, and what it answers then.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

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

/// The parameter list of the service actions that have no more.
fn keys(key: u64, action_key: u64) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
    list.resize(24, 0);
    list
}

/// A folder with the soft LUN `lun` and its ports `a` and `b`, and a helper that may know it.
struct Play {
    folder: TempDir,
    helper: Child,
}

impl Play {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = |name: &str, sas_address| Port {
            name: name.parse().unwrap(),
            nexus: Nexus {
                initiator: TransportId::Sas { sas_address },
                target_port: 1.into(),
            },
        };
        let ports = vec![port("a", 0xa), port("b", 0xb)];
        fs::create_dir(folder.path().join("luns")).unwrap();
        Lun::create(
            &folder.path().join("luns/lun"),
            ports,
            SupportedFeatures::default(),
        )
        .unwrap();
        let helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .current_dir(folder.path())
            .arg("-k")
            .arg(folder.path().join("socket"))
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Play { folder, helper }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lun(&self) -> Lun {
        Lun::open(&self.path("luns/lun")).unwrap()
    }

    fn send(&self, file: &File, cdb: [u8; 16], list: &[u8]) -> Response {
        let began = Instant::now();
        let mut client = loop {
            match Client::connect(&self.path("socket")) {
                Ok(client) => break client,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error:?}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        client.execute(cdb, file.as_fd(), list).unwrap()
    }

    /// Sends a command to a file that is opened for it.
    fn ask(&self, name: &str, cdb: [u8; 16], list: &[u8]) -> Response {
        self.send(&open(&self.path(name)), cdb, list)
    }

    /// Registers both ports and clears through one of them. Gives the other one.
    fn has_something_to_be_told(&self) -> &'static str {
        const CLEAR: [u8; 16] = [0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
        let (a, b) = ("luns/lun/ports/a", "luns/lun/ports/b");
        good(&self.ask(a, REGISTER, &keys(0, 0xaa)));
        good(&self.ask(b, REGISTER, &keys(0, 0xbb)));
        good(&self.ask(a, CLEAR, &keys(0xaa, 0)));
        b
    }

    /// Ends the helper, and gives what it has said.
    fn said(mut self) -> String {
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

impl Drop for Play {
    fn drop(&mut self) {
        // It may have ended.
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

/// Sense key, additional sense code and its qualifier of a CHECK CONDITION.
#[track_caller]
fn refusal(answer: &Response) -> (u8, u8, u8) {
    assert_eq!(
        (answer.status, answer.data.len()),
        (Status::CHECK_CONDITION, 0)
    );
    let sense = Sense::decode(&answer.sense).unwrap();
    (sense.key.code(), sense.code.asc, sense.code.ascq)
}

#[test]
fn ports_are_nexuses_of_one_unit() {
    let play = Play::new(&["--soft-luns", "luns"]);
    let (a, b) = ("luns/lun/ports/a", "luns/lun/ports/b");
    for (port, key) in [(a, 0xaa), (b, 0xbb)] {
        let answer = play.ask(port, REGISTER, &keys(0, key));
        assert!(good(&answer).is_empty());
    }
    good(&play.ask(a, RESERVE_EXCLUSIVE, &keys(0xaa, 0)));
    let refused = play.ask(b, RESERVE_EXCLUSIVE, &keys(0xbb, 0));
    assert_eq!(refused.status, Status::RESERVATION_CONFLICT);
    assert_eq!(refused.sense, [0; 96]);

    let read = play.ask(b, READ_KEYS, &[]);
    let expected = [
        &[0, 0, 0, 2, 0, 0, 0, 16][..],
        &0xaa_u64.to_be_bytes(),
        &0xbb_u64.to_be_bytes(),
    ];
    assert_eq!(good(&read), expected.concat());
    // What the helper was told is what others read in the files, and the other way round.
    let unit = play.lun().load().unwrap();
    let keys: Vec<_> = unit
        .registrations()
        .iter()
        .map(|one| one.key.get())
        .collect();
    assert_eq!(keys, [0xaa, 0xbb]);
}

#[test]
fn data_ends_at_the_allocation_length() {
    let play = Play::new(&["--soft-luns", "luns"]);
    let port = "luns/lun/ports/a";
    good(&play.ask(port, REGISTER, &keys(0, 0xaa)));
    for length in [0, 1, 7, 8, 15, 16, 17] {
        let mut cdb = READ_KEYS;
        cdb[8] = length;
        let answer = play.ask(port, cdb, &[]);
        assert_eq!(good(&answer).len(), usize::from(length.min(16)));
    }
}

#[test]
fn a_unit_attention_is_sense_data() {
    let play = Play::new(&["--soft-luns", "luns"]);
    let b = play.has_something_to_be_told();
    assert_eq!(refusal(&play.ask(b, READ_KEYS, &[])), (6, 0x2a, 3));
    good(&play.ask(b, READ_KEYS, &[]));
}

#[test]
fn a_port_that_is_open_for_reading_alone_cannot_change_anything() {
    let play = Play::new(&["--soft-luns", "luns"]);
    let port = File::open(play.path("luns/lun/ports/a")).unwrap();
    good(&play.send(&port, READ_KEYS, &[]));
    let refused = play.send(&port, REGISTER, &keys(0, 0xaa));
    assert_eq!(refusal(&refused), (5, 0x20, 0));
}

#[test]
fn any_other_file_is_what_it_was() {
    let play = Play::new(&["--soft-luns", "luns"]);
    fs::write(play.path("file"), "").unwrap();
    for name in ["file", "luns/lun/lun.json", "luns/lun/lock"] {
        assert_eq!(
            refusal(&play.ask(name, READ_KEYS, &[])),
            (0xb, 0, 6),
            "{name}"
        );
    }
    assert_eq!(
        refusal(&play.send(&open("/dev/null".as_ref()), READ_KEYS, &[])),
        (0xb, 0, 6)
    );
}

#[test]
fn whoever_may_not_open_a_port_cannot_take_its_unit_attentions() {
    let play = Play::new(&["--soft-luns", "luns"]);
    let b = play.has_something_to_be_told();
    // To be opened so a file's mode does not matter.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let path = rustix::fs::open(play.path(b), flags, rustix::fs::Mode::empty()).unwrap();
    let refused = play.send(&File::from(path), READ_KEYS, &[]);
    assert_eq!(refusal(&refused), (0xb, 0, 6));
    assert_eq!(refusal(&play.ask(b, READ_KEYS, &[])), (6, 0x2a, 3));
}

#[test]
fn a_soft_lun_that_cannot_be_read_changes_nothing_for_other_files() {
    let play = Play::new(&["--soft-luns", "luns"]);
    // Too many links, which stop root too.
    fs::create_dir(play.path("luns/a")).unwrap();
    std::os::unix::fs::symlink("b", play.path("luns/b")).unwrap();
    fs::write(play.path("file"), "").unwrap();
    assert_eq!(refusal(&play.ask("file", READ_KEYS, &[])), (0xb, 0, 6));
    good(&play.ask("luns/lun/ports/a", READ_KEYS, &[]));
    let said = play.said();
    assert!(
        said.contains("cannot tell whether a file is a port"),
        "{said}"
    );
    assert!(
        said.contains("luns/b: Too many levels of symbolic links"),
        "{said}"
    );
}

#[test]
fn a_soft_lun_that_somebody_has_locked_is_busy() {
    let play = Play::new(&["--soft-luns", "luns"]);
    let lock = File::open(play.path("luns/lun/lock")).unwrap();
    lock.lock().unwrap();
    let answer = play.ask("luns/lun/ports/a", READ_KEYS, &[]);
    assert_eq!(answer.status, Status::BUSY);
    drop(lock);
    good(&play.ask("luns/lun/ports/a", READ_KEYS, &[]));
    let said = play.said();
    assert!(
        said.contains("answered with BUSY") && said.contains("is locked by another process"),
        "{said}"
    );
}

#[test]
fn without_the_option_there_are_none() {
    let play = Play::new(&[]);
    let refused = play.ask("luns/lun/ports/a", READ_KEYS, &[]);
    assert_eq!(refusal(&refused), (0xb, 0, 6));
}

#[test]
fn a_corrupt_state_is_a_hardware_error_and_a_line_that_names_it() {
    let play = Play::new(&["--soft-luns", "luns"]);
    fs::write(play.path("luns/lun/state.json"), "{}").unwrap();
    // What is wrong with one must not hide what is with another.
    let ports = Lun::open(&play.path("luns/lun"))
        .unwrap()
        .config()
        .unwrap()
        .ports;
    Lun::create(
        &play.path("luns/other"),
        ports,
        SupportedFeatures::default(),
    )
    .unwrap();
    fs::remove_file(play.path("luns/other/lun.json")).unwrap();
    for port in ["lun/ports/a", "lun/ports/a", "other/ports/a"] {
        let refused = play.ask(&format!("luns/{port}"), READ_KEYS, &[]);
        assert_eq!(refusal(&refused), (4, 0x44, 0));
    }
    let said = play.said();
    assert!(said.contains("luns/other is not a soft LUN"), "{said}");
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.contains("state.json"))
        .collect();
    let [line] = *lines else { panic!("{said}") };
    assert!(line.contains("luns/lun/state.json is corrupt"), "{line}");
    assert!(line.contains("missing field `format`"), "{line}");
}

#[test]
fn a_folder_that_is_not_there_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .arg("-k")
        .arg(folder.path().join("socket"))
        .args(["--soft-luns", "/no/such/folder"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "qemu-pr-helper: cannot open /no/such/folder: No such file or directory (os error 2)\n"
    );
    assert!(!folder.path().join("socket").exists());
}
