// SPDX-License-Identifier: MIT OR Apache-2.0

//! A host on which a helper serves its state. /proc is replaced in a mount namespace, so that the
//! helpers of the machine are not found.

use std::fs;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use helper_state::StateDocument;
use pr_testkit::fake_proc::{FakeProcess, FakeSocket};
use pr_testkit::namespace::mount_namespace;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::prhctl;

const MOUNT: &str = "mount --bind proc /proc";

/// A host with one helper.
pub(crate) struct StateHost {
    dir: TempDir,
    wrapper: Vec<String>,
}

impl StateHost {
    /// Starts a helper that sends the document that `document` returns for each connection, from
    /// its number. Returns `None` with a printed reason if mount namespaces cannot be created.
    pub(crate) fn start(document: impl Fn(u64) -> StateDocument + Send + 'static) -> Option<Self> {
        let wrapper = mount_namespace(MOUNT)?;
        let dir = tempfile::tempdir().unwrap();
        let host = StateHost { dir, wrapper };
        let pid = unused_pid();
        let address = SocketAddr::from_abstract_name(helper_state::socket_name(pid)).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        // The listener must belong to the process of the helper. Its ID in its own namespace, and
        // so the name of the socket, can be any.
        host.add(process::id(), pid);
        thread::spawn(move || {
            for (stream, count) in listener.incoming().zip(0..) {
                let data = serde_json::to_vec(&document(count)).unwrap();
                // The reader may have disconnected.
                let _ = stream.unwrap().write_all(&data);
            }
        });
        Some(host)
    }

    /// Adds a helper without a listener on its state socket.
    pub(crate) fn add_silent(&self) {
        let pid = unused_pid();
        self.add(pid, pid);
    }

    fn add(&self, pid: u32, namespace_pid: u32) {
        let proc = self.dir.path().join("proc");
        let socket = format!("@{}", helper_state::socket_name(namespace_pid));
        let process = FakeProcess {
            pid,
            name: "qemu-pr-helper",
            root: Path::new("/"),
            open: 50,
            sockets: &[FakeSocket::Listening(51, Path::new(&socket))],
        };
        process.create(&proc);
        let status = format!("Name:\tqemu-pr-helper\nPPid:\t1\nNSpid:\t{pid}\t{namespace_pid}\n");
        fs::write(proc.join(format!("{pid}/status")), status).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns a command that runs prhctl on this host.
    pub(crate) fn prhctl(&self, arguments: &str) -> Command {
        let prhctl = prhctl(self.path(), arguments);
        let mut command = Command::new(&self.wrapper[0]);
        command.args(&self.wrapper[1..]);
        command.arg(prhctl.get_program()).args(prhctl.get_args());
        command.current_dir(self.path()).env("TERM", "xterm");
        command
    }
}

/// Returns a process ID that no test has used, and no process has.
fn unused_pid() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    // The name of the socket must also differ from those of other runs.
    process::id() + COUNT.fetch_add(1, Ordering::Relaxed) * 10_000_000
}

/// Returns a document with two virtual machines that are registered with the same disks. All
/// counters increase with `count`.
pub(crate) fn busy_document(count: u64) -> StateDocument {
    let mut map = disk("252:3", "naa.6001406");
    map["paths"] = json!([
        { "node": "sdb", "device": "8:16", "registration": "registered", "since_us": 1 },
        { "node": "sdc", "device": "8:32", "registration": "not-registered", "since_us": 1 },
    ]);
    let document = json!({
        "version": helper_state::VERSION,
        "time_us": 1_772_366_400_000_000_u64 + count * 1_000_000,
        "helper": {
            "pid": 100,
            "version": "0.1.0",
            "socket": "/run/qemu-pr-helper.sock",
            "started_us": 1_772_366_000_000_000_u64,
            "same_lun": "warn",
        },
        "clients": [client(1, "vm1"), client(2, "vm2")],
        "disks": [disk("8:0", "naa.6001405"), map],
        "statistics": [
            statistics("vm1", "REGISTER", "GOOD", count),
            statistics("vm1", "PREEMPT AND ABORT", "GOOD", count),
            statistics("vm2", "RESERVE", "RESERVATION CONFLICT", count),
            statistics("vm2", "READ KEYS", "UNIT ATTENTION", count),
        ],
        "limits": {
            "rejected_connections": count,
            "accept_pauses": count,
            "busy_devices": count,
            "busy_threads": count,
            "request_timeouts": count,
            "refused_registrations": count,
        },
        "workers": { "idle": 1, "busy": 2, "failed": count },
        "journal": { "lost": count, "records": [] },
    });
    serde_json::from_value(document).unwrap()
}

fn client(id: u32, name: &str) -> Value {
    json!({
        "id": id,
        "process": { "pid": 1000 + id, "uid": 107, "name": name, "vm": null, "unit": null },
        "connected_us": 1_772_366_100_000_000_u64,
        "commands": 7,
        "command": { "device": "8:0", "action": "RESERVE", "age_us": 12_500_000 },
    })
}

fn disk(device: &str, wwn: &str) -> Value {
    let registrations = ["vm1", "vm2"].map(
        |client| json!({ "key": "0xabc", "client": client, "is_connected": true, "time_us": 1 }),
    );
    json!({
        "device": device,
        "wwn": wwn,
        "nodes": ["sda"],
        "kind": "disk",
        "alias": null,
        "transport": "iscsi",
        "registrations": registrations,
        "reservation": null,
    })
}

fn statistics(client: &str, action: &str, result: &str, count: u64) -> Value {
    let mut buckets = vec![0; helper_state::BUCKETS];
    (buckets[3], buckets[11]) = (count, count);
    json!({
        "client": client,
        "device": "8:0",
        "action": action,
        "result": result,
        "count": 2 * count,
        "total_us": 900_000 * count,
        "max_us": 800_000,
        "buckets": buckets,
    })
}
