// SPDX-License-Identifier: MIT OR Apache-2.0

//! The event journal of the real helper in a systemd journal of the test's own, compared with
//! `prhctl history`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use pr_testkit::cdb::{preempt, register_and_ignore, reserve};
use pr_testkit::namespace::mount_namespace;
use pr_testkit::soft_lun::{SoftLunFixture, port};
use pr_testkit::{HelperProcess, TestClient, eventually, skip};
use rustix::process::geteuid;
use scsi_pr::{ReservationType, TransportId};
use serde_json::Value;

use crate::demo::real_helper;
use crate::support::{Run, prhctl};

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Clients, each with a port and a key of its own.
const CLIENTS: u64 = 3;

/// Rounds of three commands for each client: fewer than a hundred, which the helper keeps.
const ROUNDS: u64 = 11;

/// JSON pointers to fields of the system journal, and to members of a record with the same value.
const FIELDS: [(&str, &str); 20] = [
    ("/PR_SEQUENCE", "/sequence"),
    ("/PR_TIME_US", "/time_us"),
    ("/PR_VM", "/client"),
    ("/PR_CLIENT", "/client_id"),
    ("/PR_CLIENT_PID", "/pid"),
    ("/PR_DEVICE", "/device"),
    ("/PR_ACTION", "/action"),
    ("/PR_KEY", "/key"),
    ("/PR_SERVICE_ACTION_KEY", "/service_action_key"),
    ("/PR_TYPE", "/type"),
    ("/PR_STATUS", "/status"),
    ("/PR_SENSE", "/sense"),
    ("/PR_DURATION_US", "/duration_us"),
    ("/PR_PREVIOUS_KEY", "/previous_key"),
    ("/PR_REGISTRANTS_BEFORE", "/before/registrants"),
    ("/PR_HOLDER_BEFORE", "/before/holder"),
    ("/PR_TYPE_BEFORE", "/before/type"),
    ("/PR_REGISTRANTS_AFTER", "/after/registrants"),
    ("/PR_HOLDER_AFTER", "/after/holder"),
    ("/PR_TYPE_AFTER", "/after/type"),
];

/// A journald of the test. Those with a namespace read neither the log of the kernel nor audit
/// records. /run is a directory of the test for it and for the helper.
struct Journal {
    process: std::process::Child,
    wrapper: Vec<String>,
}

impl Journal {
    /// Returns `None` with a printed reason if it cannot run.
    fn start(dir: &Path) -> Option<Self> {
        if !geteuid().is_root() || !Path::new(JOURNALD).exists() {
            skip("root and systemd-journald are needed");
            return None;
        }
        let (run, log) = (dir.join("run"), dir.join("log"));
        fs::create_dir_all(run.join("systemd")).unwrap();
        fs::create_dir(&log).unwrap();
        std::os::unix::fs::symlink("journal.test", run.join("systemd/journal")).unwrap();
        let mounts = format!(
            "mount --bind {} /run\nmount --bind {} /var/log",
            run.display(),
            log.display()
        );
        let wrapper = mount_namespace(&mounts)?;
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args([JOURNALD, "test"]);
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        let socket = run.join("systemd/journal/socket");
        eventually("journald listens", || socket.exists().then_some(()));
        Some(Self { process, wrapper })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Returns the records in the system journal in the order in which they arrived.
fn journal_records(dir: &Path) -> Vec<Value> {
    let files = dir.join("log/journal/*/*.journal");
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["-o", "json", "SYSLOG_IDENTIFIER=qemu-pr-helper", "--file"]);
    let output = journalctl.arg(files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines();
    let all = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    // Lines of the log have the same identifier.
    all.filter(|one| one["PR_SEQUENCE"].is_string()).collect()
}

/// Registers, reserves and preempts the next client.
fn run_client(mut client: TestClient, port: &File, key: u64) {
    const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;
    let victim = key % CLIENTS + 1;
    for _ in 0..ROUNDS {
        for command in [
            register_and_ignore(key),
            reserve(key, TYPE),
            preempt(key, victim, TYPE),
        ] {
            client.execute(&command, port);
        }
    }
}

/// Returns the values of a record that both journals have; numbers as text.
fn values(
    record: &Value,
    name: impl Fn((&'static str, &'static str)) -> &'static str,
) -> Vec<String> {
    let values = FIELDS.map(|names| match record.pointer(name(names)) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Array(keys)) if keys.is_empty() => "-".to_owned(),
        Some(Value::Array(keys)) => {
            let keys = keys.iter().map(|key| key.as_str().unwrap());
            keys.collect::<Vec<_>>().join(" ")
        }
        Some(number) => number.to_string(),
    });
    values.into()
}

#[test]
fn system_journal_and_history_have_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let Some(journal) = Journal::start(dir.path()) else {
        return;
    };
    let ports = (1..=CLIENTS).map(|key| {
        let initiator = TransportId::Sas { sas_address: key };
        port(&key.to_string(), initiator, u16::try_from(key).unwrap())
    });
    let lun = SoftLunFixture::with_ports(dir.path(), ports.collect());
    let builder = HelperProcess::builder(real_helper()).socket(dir.path().join("socket"));
    let builder = builder
        .wrapper(&journal.wrapper)
        .arg("--soft-luns")
        .arg(&lun.luns);
    let helper = builder.args(["--journal", "systemd"]).start().unwrap();
    thread::scope(|scope| {
        for key in 1..=CLIENTS {
            let path = lun.port(&key.to_string());
            let port = File::options().read(true).write(true).open(path).unwrap();
            let client = helper.client();
            scope.spawn(move || run_client(client, &port, key));
        }
    });
    let count = usize::try_from(CLIENTS * ROUNDS * 3).unwrap();
    let records = eventually("all records are in the system journal", || {
        let records = journal_records(dir.path());
        (records.len() >= count).then_some(records)
    });
    let history = Run::new(&mut prhctl(dir.path(), "-k socket --json history"), "").json();
    let mut history = history["records"].as_array().unwrap().clone();
    history.sort_by_key(|record| record["sequence"].as_u64());
    let from_journal: Vec<_> = records
        .iter()
        .map(|one| values(one, |(name, _)| name))
        .collect();
    let from_history: Vec<_> = history
        .iter()
        .map(|one| values(one, |(_, name)| name))
        .collect();
    assert_eq!(from_journal, from_history);
    let sequence: Vec<_> = history
        .iter()
        .map(|record| record["sequence"].as_u64())
        .collect();
    let expected: Vec<_> = (1..).take(count).map(Some).collect();
    assert_eq!(sequence, expected);
    for event in ["change", "conflict", "attention"] {
        assert!(
            history.iter().any(|record| record["event"] == event),
            "no {event}"
        );
    }
    let is_preemption =
        |record: &Value| record["action"] == "PREEMPT" && record["status"] == "GOOD";
    assert!(history.iter().any(is_preemption));
}
