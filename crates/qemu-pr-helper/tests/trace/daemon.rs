//! Relative names, in the background and where none is given.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::account::{Account, expected, to_binary_file};
use crate::definitions::Definitions;
use crate::helper::{Launch, load, wait_for};
use crate::reader::{Item, read};

fn items(path: &Path) -> Vec<Item> {
    read(&fs::read(path).unwrap(), &Definitions::of_helper()).unwrap()
}

#[test]
fn a_daemon_s_files_are_where_its_caller_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("events"),
        "# Those of the end.\n\npr_helper_stopp*\n-pr_helper_stopping\n",
    )
    .unwrap();
    let pid_file = folder.path().join("pid");
    // The caller, who ends when the daemon serves.
    let caller = Launch::new(folder.path()).args([
        "-d",
        "-f",
        pid_file.to_str().unwrap(),
        "--trace-backend=simple",
        "-Tevents=events,file=trace",
    ]);
    assert!(caller.finish().status.success());
    let pid = fs::read_to_string(&pid_file).unwrap();
    let pid: u32 = pid.trim().parse().unwrap();
    let daemon = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(daemon, Signal::TERM).unwrap();
    let items = wait_for("the daemon's trace", || {
        let items = items(&folder.path().join("trace"));
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
fn without_a_name_it_is_named_after_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = to_binary_file("other");
    let arguments = arguments.iter().map(String::as_str);
    // The last value names no file, so there is none of that name.
    let launch = Launch::new(folder.path()).args(arguments.chain(["-T"]).chain([""]));
    let mut running = launch.start();
    load(&running, 2, 100);
    assert!(running.terminate().success());
    let trace = folder.path().join(format!("trace-{}", running.pid()));
    Account::of(&items(&trace)).settle(&expected(running.connected(), &[(2, 100)]));
    assert!(!folder.path().join("other").exists());
}

#[test]
fn without_an_event_there_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).args(["--trace-backend", "simple"]);
    let mut running = launch.start();
    assert!(running.terminate().success());
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["stderr"]);
}

#[test]
fn a_start_that_fails_has_a_trace_as_far_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = to_binary_file("trace");
    let launch = Launch::new(folder.path()).args(arguments.iter().map(String::as_str));
    let output = launch.args(["-f", "none/pid"]).finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let account = Account::of(&items(&folder.path().join("trace")));
    let names: Vec<_> = account.written.into_iter().collect();
    let expected = ["qio_channel_socket_listen_complete", "socket_listen"];
    assert_eq!(names, expected.map(|name| (name.to_owned(), 1)));
}
