//! `prhctl demo`, with the real helper, and with helpers that are none.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Runs it with a temporary folder of its own, which it has to leave empty.
fn demo(arguments: &[&str]) -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_prhctl"))
        .env("TMPDIR", folder.path())
        .arg("demo")
        .args(arguments)
        .output()
        .unwrap();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    (output, folder)
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The helper that a demonstration builds if it is not told of one.
fn real_helper() -> PathBuf {
    let (output, _folder) = demo(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    document(&output)["helper"].as_str().unwrap().into()
}

/// A program that does something to the soft LUNs, whose folder is `$4`, and goes on as the real helper.
fn meddler(folder: &Path, deed: &str) -> PathBuf {
    let path = folder.join("meddler");
    let script = format!(
        "#!/bin/sh\n{deed}\nexec {} \"$@\"\n",
        real_helper().display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn every_step_is_answered_as_the_standard_says() {
    let (output, _folder) = demo(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        " 1. node1 registers",
        "    node1 asks   REGISTER, key 0x0, new key 0x1001",
        "    registered   node1 0x1001, node2 0x1002",
        "    reserved     Write Exclusive - Registrants Only, held by node2",
        "    answer       RESERVATION CONFLICT",
        "    answer       CHECK CONDITION: UNIT ATTENTION, REGISTRATIONS PREEMPTED (6/2a/05)",
        "    answer       GOOD, keys: 0x1002",
        "13. node1 joins the cluster again",
        "All as the standard (SPC-4) says. The helper has ended, and everything is removed.",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// README shows some of the lines, and an ellipsis for the others.
#[test]
fn readme_shows_what_is_printed() {
    const README: &str = include_str!("../../../README.md");
    let (_, quick_start) = README.split_once("## Quick start").unwrap();
    let (_, shown) = quick_start.split_once("```text\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let (output, _folder) = demo(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut printed = text.lines();
    for line in shown.lines().filter(|line| *line != "…") {
        assert!(
            printed.any(|one| one == line),
            "not there, or not in this order: {line}"
        );
    }
    assert_eq!(printed.next(), None);
}

#[test]
fn programs_read_the_same_story() {
    let (output, _folder) = demo(&["--json"]);
    let story = document(&output);
    assert_eq!(story["as_it_should_be"], true);
    let steps = story["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 13);
    let fenced = &steps[6];
    assert_eq!(fenced["node"], "node2");
    assert_eq!(
        fenced["answer"]["status"],
        serde_json::json!({"code": 0, "name": "GOOD"})
    );
    assert_eq!(
        fenced["registered"],
        serde_json::json!([{"node": "node2", "key": "0x1002"}])
    );
    assert_eq!(
        fenced["reservation"],
        serde_json::json!({"type": "write-exclusive-registrants-only", "holder": "node2"})
    );
    assert_eq!(fenced["may_write"], serde_json::json!(["node2"]));
    assert_eq!(steps[5]["answer"], Value::Null);
    assert_eq!(steps[8]["answer"]["sense"]["asc"], 0x2a);
    assert!(
        steps
            .iter()
            .all(|step| step["faults"] == serde_json::json!([]))
    );
}

#[test]
fn an_answer_that_is_none_of_the_standard_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    // Without the type that is reserved.
    let deed = "sed -i '/\"write-exclusive-registrants-only\",/d' \"$4\"/shared/lun.json";
    let meddler = meddler(folder.path(), deed);
    let (output, _folder) = demo(&["--helper", meddler.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(" 3. node1 reserves the disk"), "{text}");
    assert!(
        text.contains("ILLEGAL REQUEST, INVALID FIELD IN CDB (5/24/00)"),
        "{text}"
    );
    assert!(
        text.contains("This is not as the standard (SPC-4) says."),
        "{text}"
    );
    assert!(!text.contains(" 4. "), "{text}");
}

#[test]
fn a_broken_disk_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let meddler = meddler(folder.path(), "echo > \"$4\"/shared/state.json");
    let (output, _folder) = demo(&["--helper", meddler.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("shared/state.json is corrupt"), "{text}");
    // What came before it is not lost.
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("Two nodes of a cluster"), "{text}");

    let (output, _folder) = demo(&["--json", "--helper", meddler.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let story = document(&output);
    assert_eq!(story["as_it_should_be"], false);
    assert_eq!(story["steps"], serde_json::json!([]));
    let message = story["error"]["message"].as_str().unwrap();
    assert!(message.contains("state.json is corrupt"), "{message}");
}

#[test]
fn a_helper_that_is_none_is_an_error() {
    for (helper, words) in [
        (
            "/no/such/helper",
            "cannot start /no/such/helper: No such file or directory",
        ),
        ("/bin/false", "the helper ended with exit status: 1"),
    ] {
        let (output, _folder) = demo(&["--helper", helper]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn another_helper_cannot_play_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("helper");
    let script = "#!/bin/sh\necho \"$0: unrecognized option '--soft-luns'\" >&2\nexit 1\n";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, _folder) = demo(&["--helper", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("this project's helper"), "{text}");
}

#[test]
fn a_place_for_temporary_files_that_is_none_is_named_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_prhctl"))
        .env("TMPDIR", "/no/such/place")
        .args(["demo", "--helper", "/bin/false"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "prhctl: cannot make a folder in /no/such/place: No such file or directory (os error 2)\n  \
         Another place for temporary files: TMPDIR=PATH prhctl demo.\n"
    );
}

/// Starts it with a helper that takes its time, and gives the process and its temporary folder when the
/// helper runs. The helper's process is in the file `helper`, outside.
fn begun(outside: &Path) -> (Child, TempDir, String) {
    let helper = outside.join("helper");
    let deed = format!(
        "grep SigBlk /proc/self/status > {0}.mask; echo $$ > {0}",
        helper.display()
    );
    let meddler = meddler(outside, &format!("{deed}; exec sleep 1000"));
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_prhctl"))
        // Relative, and yet good for a socket.
        .env("TMPDIR", ".")
        .current_dir(folder.path())
        .args(["demo", "--helper", meddler.to_str().unwrap()])
        .spawn()
        .unwrap();
    let began = Instant::now();
    loop {
        match fs::read_to_string(&helper) {
            Ok(pid) if pid.ends_with('\n') => return (child, folder, pid.trim().to_owned()),
            _ => assert!(began.elapsed() < Duration::from_secs(20), "no helper"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_leaves_nothing() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let outside = tempfile::tempdir().unwrap();
        let (mut child, folder, helper) = begun(outside.path());
        // It can be ended: what is blocked in prhctl is not in the helper.
        let own = fs::read_to_string("/proc/thread-self/status").unwrap();
        let own = own.lines().find(|line| line.starts_with("SigBlk")).unwrap();
        let mask = fs::read_to_string(outside.path().join("helper.mask")).unwrap();
        assert_eq!(mask.trim_end(), own);

        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!Path::new("/proc").join(&helper).exists(), "{helper}");
    }
}

#[test]
fn without_a_helper_beside_it_one_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("prhctl");
    fs::copy(env!("CARGO_BIN_EXE_prhctl"), &alone).unwrap();
    // As it is installed: although cargo has started the test, nothing is built.
    let output = Command::new(&alone).arg("demo").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("qemu-pr-helper: no such program"), "{text}");
    assert!(text.contains("--helper"), "{text}");
}
