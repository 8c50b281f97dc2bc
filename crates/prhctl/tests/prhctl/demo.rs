// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl demo`, with the real helper and with programs that are not helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use pr_testkit::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::errors::NO_SPACE;

/// Runs the demonstration in a temporary directory, which must be empty afterwards.
fn demo(arguments: &[&str]) -> (Output, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_prhctl"))
        .env("TMPDIR", dir.path())
        .arg("demo")
        .args(arguments)
        .output()
        .unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    (output, dir)
}

fn parse(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Returns the helper that the demonstration builds by default.
pub(crate) fn real_helper() -> PathBuf {
    let (output, _dir) = demo(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    parse(&output)["helper"].as_str().unwrap().into()
}

/// Creates a script that runs `command` and then the real helper. `$4` is the directory of soft
/// LUNs.
pub(crate) fn wrapper(dir: &Path, command: &str) -> PathBuf {
    let path = dir.join("wrapper");
    let script = format!(
        "#!/bin/sh\n{command}\nexec {} \"$@\"\n",
        real_helper().display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn every_response_matches_standard() {
    let (output, _dir) = demo(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        " 1. node1 registers",
        "    node1 sends  REGISTER, key 0x0, new key 0x1001",
        "    registered   node1 0x1001, node2 0x1002",
        "    reserved     Write Exclusive - Registrants Only, held by node2",
        "    response     RESERVATION CONFLICT",
        "    response     CHECK CONDITION: UNIT ATTENTION, REGISTRATIONS PREEMPTED",
        "    response     GOOD, keys: 0x1002",
        "13. node1 rejoins the cluster",
        "Every response matched the standard (SPC-4, SCSI Primary Commands). The helper",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// README shows some of the lines, and ellipses for the others.
#[test]
fn readme_matches_output() {
    const README: &str = include_str!("../../../../README.md");
    let (_, quick_start) = README.split_once("## Quick start").unwrap();
    let (_, shown) = quick_start.split_once("```text\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let (output, _dir) = demo(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut printed = text.lines();
    for line in shown.lines().filter(|line| *line != "…") {
        assert!(
            printed.any(|one| one == line),
            "missing, or in another order: {line}"
        );
    }
    assert_eq!(printed.next(), None);
}

#[test]
fn json_has_all_steps() {
    let (output, _dir) = demo(&["--json"]);
    let document = parse(&output);
    assert_eq!(document["success"], true);
    let steps = document["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 13);
    let fenced = &steps[6];
    assert_eq!(fenced["node"], "node2");
    assert_eq!(
        fenced["response"]["status"],
        serde_json::json!({"code": 0, "name": "GOOD"})
    );
    assert_eq!(
        fenced["registrations"],
        serde_json::json!([{"node": "node2", "key": "0x1002"}])
    );
    assert_eq!(
        fenced["reservation"],
        serde_json::json!({"type": "write-exclusive-registrants-only", "holder": "node2"})
    );
    assert_eq!(fenced["writers"], serde_json::json!(["node2"]));
    assert_eq!(steps[5]["response"], Value::Null);
    assert_eq!(steps[8]["response"]["sense"]["asc"], 0x2a);
    assert!(
        steps
            .iter()
            .all(|step| step["mismatches"] == serde_json::json!([]))
    );
}

#[test]
fn unexpected_response_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    // Remove support for the type that node1 reserves.
    let command = "sed -i '/\"write-exclusive-registrants-only\",/d' \"$4\"/shared/lun.json";
    let wrapper = wrapper(dir.path(), command);
    let (output, _dir) = demo(&["--helper", wrapper.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(" 3. node1 reserves the disk"), "{text}");
    assert!(
        text.contains("ILLEGAL REQUEST, INVALID FIELD IN CDB"),
        "{text}"
    );
    assert!(
        text.contains("This does not match the standard (SPC-4"),
        "{text}"
    );
    assert!(!text.contains(" 4. "), "{text}");
}

#[test]
fn damaged_disk_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let wrapper = wrapper(dir.path(), "echo > \"$4\"/shared/state.json");
    let (output, _dir) = demo(&["--helper", wrapper.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("shared/state.json is corrupt"), "{text}");
    // The output before the error is complete.
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("Two nodes of a cluster"), "{text}");

    let (output, _dir) = demo(&["--json", "--helper", wrapper.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document = parse(&output);
    assert_eq!(document["success"], false);
    assert_eq!(document["steps"], serde_json::json!([]));
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("state.json is corrupt"), "{message}");
}

#[test]
fn invalid_helper_is_error() {
    for (helper, fragment) in [
        (
            "/no/such/helper",
            "cannot start /no/such/helper: No such file or directory",
        ),
        ("/bin/false", "the helper exited (exit status: 1)"),
    ] {
        let (output, _dir) = demo(&["--helper", helper]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(fragment), "{text}");
    }
}

#[test]
fn other_helper_is_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("helper");
    let script = "#!/bin/sh\necho \"$0: unrecognized option '--soft-luns'\" >&2\nexit 1\n";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, _dir) = demo(&["--helper", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("this project's helper"), "{text}");
}

#[test]
fn invalid_temp_dir_is_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_prhctl"))
        .env("TMPDIR", "/no/such/place")
        .args(["demo", "--helper", "/bin/false"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "prhctl: cannot create a temporary directory in /no/such/place: No such file or \
         directory\n  Use another directory for temporary files: TMPDIR=PATH prhctl demo.\n"
    );
}

#[test]
fn full_standard_output_is_reported_once() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let helper = real_helper();
    let mut command = Command::new(env!("CARGO_BIN_EXE_prhctl"));
    let command = command.args(["demo", "--helper"]).arg(helper);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), NO_SPACE);
}

/// Starts the demonstration with a helper that hangs. Returns the process, its temporary directory
/// and the PID of the helper, which the helper writes to the file `helper` in `outside`.
fn start_hung(outside: &Path) -> (Child, TempDir, String) {
    let helper = outside.join("helper");
    let command = format!(
        "grep SigBlk /proc/self/status > {0}.mask; echo $$ > {0}",
        helper.display()
    );
    let wrapper = wrapper(outside, &format!("{command}; exec sleep 1000"));
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_prhctl"))
        // A socket works in a relative TMPDIR too.
        .env("TMPDIR", ".")
        .current_dir(dir.path())
        .args(["demo", "--helper", wrapper.to_str().unwrap()])
        .spawn()
        .unwrap();
    let pid = eventually("the helper", || {
        let text = fs::read_to_string(&helper).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    });
    (child, dir, pid)
}

#[test]
fn signal_removes_everything() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let outside = tempfile::tempdir().unwrap();
        let (mut child, dir, helper) = start_hung(outside.path());
        // The helper does not inherit the signals that prhctl blocks.
        let own = fs::read_to_string("/proc/thread-self/status").unwrap();
        let own = own.lines().find(|line| line.starts_with("SigBlk")).unwrap();
        let mask = fs::read_to_string(outside.path().join("helper.mask")).unwrap();
        assert_eq!(mask.trim_end(), own);

        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!Path::new("/proc").join(&helper).exists(), "{helper}");
    }
}
