// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trace files: their names, full disks, and truncation by the operator.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pr_testkit::namespace::mount_namespace;
use pr_testkit::{eventually, skip};
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, kill_process, prlimit};

use crate::binary_reader::{Item, read, read_file};
use crate::definitions::Definitions;
use crate::event_counts::{EventCounts, binary_trace_args, expected_events};
use crate::helper::{Helper, builder, run_load};

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 500;

/// Size to which the trace can grow before it is full.
const SPACE: u64 = 64 * 1024;

/// Runs a load until the file is full, frees space, and runs another one. The trace must have the
/// records from before, a drop marker, and the later records.
fn check_full_disk(mut helper: Helper, path: &Path, free_space: impl FnOnce(&Helper)) {
    let definitions = Definitions::from_helper();
    run_load(&helper, CLIENTS, REQUESTS);
    eventually("warning about dropped events", || {
        helper.log().contains("trace dropped").then_some(())
    });
    // While the helper still tries to write, the file can end with half a record for a moment.
    let bytes = eventually("file without further changes", || {
        let bytes = fs::read(path).unwrap();
        thread::sleep(Duration::from_millis(200));
        (bytes == fs::read(path).unwrap()).then_some(bytes)
    });
    let length = u64::try_from(bytes.len()).unwrap();
    assert!(length <= SPACE && length > SPACE - 1024, "{length}");
    let before = read(&bytes, &definitions).unwrap();

    free_space(&helper);
    run_load(&helper, CLIENTS, REQUESTS);
    // The file is opened now, because it can be on a mount that vanishes with the helper.
    let file = fs::File::open(path).unwrap();
    assert!(helper.terminate().unwrap().success());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
    let items = read(&bytes, &definitions).unwrap();
    let counts = EventCounts::new(&items);
    let loads = [(CLIENTS, REQUESTS), (CLIENTS, REQUESTS)];
    counts.assert_complete(&expected_events(helper.connected(), &loads));
    assert!(counts.dropped > 0);
    // The earlier records are unchanged. The first drop marker follows them, or precedes the last
    // ones if some more records fit after it.
    assert!(items.starts_with(&before));
    let is_marker = |item: &Item| matches!(item, Item::Dropped { .. });
    let first = items.iter().position(is_marker).unwrap();
    assert!(first <= before.len(), "{first}, {}", before.len());
    let Some(Item::Event(last)) = items.last() else {
        panic!("{:?}", items.last());
    };
    assert_eq!(last.name, "pr_helper_stopped");
}

fn start(dir: &Path, wrapper: &[String], file: &str) -> Helper {
    let command = builder(dir).wrapper(wrapper);
    Helper::start(command.args(binary_trace_args(file)))
}

#[test]
fn file_size_limit_drops_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let wrapper = ["prlimit".to_owned(), format!("--fsize={SPACE}:unlimited")];
    let helper = start(dir.path(), &wrapper, "trace");
    check_full_disk(helper, &dir.path().join("trace"), |helper| {
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        prlimit(Some(helper.pid()), Resource::Fsize, unlimited).unwrap();
    });
}

#[test]
fn full_file_system_drops_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let Some(wrapper) = mount_namespace(
        "mkdir disk; mount -t tmpfs -o size=4M none disk; head -c 4128768 /dev/zero > disk/filler",
    ) else {
        return;
    };
    let helper = start(dir.path(), &wrapper, "disk/trace");
    let inside = |name: &str| {
        let root = PathBuf::from(format!("/proc/{}/root", helper.id()));
        let dir = dir.path().strip_prefix("/").unwrap();
        root.join(dir).join("disk").join(name)
    };
    let (trace, filler) = (inside("trace"), inside("filler"));
    check_full_disk(helper, &trace, |_| fs::remove_file(filler).unwrap());
}

#[test]
fn truncated_file_restarts_at_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let command = builder(dir.path()).args(["-Tpr_helper_client_connected,file=trace"]);
    let mut helper = Helper::start(command);
    let path = dir.path().join("trace");
    let written = || fs::read_to_string(&path).unwrap();
    let line = |client: u64| format!("pr_helper_client_connected client={client} ");
    eventually("first line", || {
        written().starts_with(&line(1)).then_some(())
    });
    // logrotate truncates a file in this way with `copytruncate`.
    fs::write(&path, "").unwrap();
    helper.connect().disconnect();
    assert!(helper.terminate().unwrap().success());
    let text = written();
    assert!(text.starts_with(&line(2)), "{text:?}");
    assert_eq!(text.lines().count(), 1, "{text:?}");
}

#[test]
fn daemon_resolves_paths_in_callers_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("events"),
        "# Events at the end.\n\npr_helper_stopp*\n-pr_helper_stopping\n",
    )
    .unwrap();
    let pid_file = dir.path().join("pid");
    // The caller exits when the daemon is ready.
    let caller = builder(dir.path()).args([
        "-d",
        "-f",
        pid_file.to_str().unwrap(),
        "--trace-backend=simple",
        "-Tevents=events,file=trace",
    ]);
    assert!(caller.output().unwrap().status.success());
    let pid = fs::read_to_string(&pid_file).unwrap();
    let pid: u32 = pid.trim().parse().unwrap();
    let daemon = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(daemon, Signal::TERM).unwrap();
    let items = eventually("trace of the daemon", || {
        let items = read_file(&dir.path().join("trace"));
        (!items.is_empty()).then_some(items)
    });
    let [Item::Event(record)] = items.as_slice() else {
        panic!("{items:?}");
    };
    assert_eq!(record.name, "pr_helper_stopped");
    assert_eq!(record.process, pid);
    assert_eq!(record.number("unanswered"), 0);
}

#[test]
fn default_file_name_has_the_process_id() {
    let dir = tempfile::tempdir().unwrap();
    // The last value of `-T` does not name a file, so the earlier name has no effect.
    let command = builder(dir.path())
        .args(binary_trace_args("other"))
        .args(["-T", ""]);
    let mut helper = Helper::start(command);
    run_load(&helper, 2, 100);
    assert!(helper.terminate().unwrap().success());
    let trace = dir.path().join(format!("trace-{}", helper.id()));
    EventCounts::new(&read_file(&trace))
        .assert_complete(&expected_events(helper.connected(), &[(2, 100)]));
    assert!(!dir.path().join("other").exists());
}

#[test]
fn disabled_events_create_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let command = builder(dir.path()).args(["--trace-backend", "simple"]);
    let mut helper = Helper::start(command);
    assert!(helper.terminate().unwrap().success());
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["stderr"]);
}

#[test]
fn failed_start_writes_its_events() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    // The user that the helper changes to cannot read this directory.
    fs::create_dir(dir.path().join("luns")).unwrap();
    fs::set_permissions(dir.path().join("luns"), Permissions::from_mode(0o700)).unwrap();
    let command = builder(dir.path()).args(binary_trace_args("trace"));
    let command = command.args(["--soft-luns", "luns", "-u", "65534", "-g", "65534"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let counts = EventCounts::new(&read_file(&dir.path().join("trace")));
    let names: Vec<_> = counts.written.into_iter().collect();
    let expected = [
        "pr_helper_privileges_dropped",
        "qio_channel_socket_listen_complete",
        "socket_listen",
    ];
    assert_eq!(names, expected.map(|name| (name.to_owned(), 1)));
}
