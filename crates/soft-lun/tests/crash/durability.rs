// SPDX-License-Identifier: MIT OR Apache-2.0

//! Order of the system calls of a registration, as strace reports it.
//!
//! Killing a process does not simulate a power loss, because the kernel keeps the data that the
//! process has written. The system calls show which data is on the disk, and when.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use pr_testkit::skip;

use crate::writer;

/// The content is on the disk before the file is renamed.
const DATA: [&str; 3] = ["write", "fdatasync", "renameat"];
/// The rename is on the disk too before the response.
const DATA_AND_DIR: [&str; 4] = ["write", "fdatasync", "renameat", "fsync"];

/// Traces some registrations with strace.
///
/// # Panics
///
/// Panics if the order is wrong, or if there is no strace although `PR_COMPAT_STRICT` forbids to
/// skip tests.
pub(crate) fn system_calls_are_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lun");
    writer::create(&path);
    let trace = dir.path().join("trace");
    let traced = Command::new("strace")
        .args([
            "-f",
            "-e",
            "trace=write,fdatasync,fsync,rename,renameat,renameat2",
            "-o",
        ])
        .arg(&trace)
        .arg(env::current_exe().unwrap())
        .arg("--steps")
        .arg(&path)
        .stdout(Stdio::null())
        .output();
    let reason = match traced {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = reason {
        return skip(&format!("strace failed: {}", reason.trim_end()));
    }
    let steps = steps(&fs::read_to_string(&trace).unwrap());
    // Without APTPL, with APTPL, and with the command that clears APTPL.
    let expected = [DATA.to_vec(), DATA_AND_DIR.to_vec(), DATA_AND_DIR.to_vec()];
    assert_eq!(steps, expected);
    println!("durability: state with APTPL is on the disk before the response");
}

/// Returns the names of the system calls of each step. A write to standard output ends a step.
fn steps(trace: &str) -> Vec<Vec<&'static str>> {
    let mut steps = vec![Vec::new()];
    for line in trace.lines() {
        let (_, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        if call.starts_with("write(1,") {
            steps.push(Vec::new());
            continue;
        }
        let name = DATA_AND_DIR.into_iter().find(|name| call.starts_with(name));
        steps.last_mut().unwrap().extend(name);
    }
    assert_eq!(steps.pop(), Some(Vec::new()));
    steps
}
