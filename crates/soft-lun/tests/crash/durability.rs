//! A kill is no loss of power: what the kernel was given, it has. What a disk was given is seen in the system
//! calls, whose order strace shows.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use crate::writer;

/// A complete content, on the disk before it has the name.
const CONTENT: [&str; 3] = ["write", "fdatasync", "renameat"];
/// And the name on the disk before the answer.
const NAME: [&str; 4] = ["write", "fdatasync", "renameat", "fsync"];

/// The test.
///
/// # Panics
///
/// Also if there is no strace where `PR_COMPAT_STRICT` says that nothing may be skipped.
pub(crate) fn look_at_system_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lun");
    writer::create(&path);
    let trace = folder.path().join("trace");
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
        Err(error) => {
            assert!(
                env::var_os("PR_COMPAT_STRICT").is_none(),
                "no strace: {error}"
            );
            Some(error.to_string())
        }
    };
    if let Some(reason) = reason {
        eprintln!(
            "durability: skipped, strace cannot be used: {}",
            reason.trim_end()
        );
        return;
    }
    let steps = steps(&fs::read_to_string(&trace).unwrap());
    // Without APTPL, with it, and when it has just been switched off.
    assert_eq!(steps, [CONTENT.to_vec(), NAME.to_vec(), NAME.to_vec()]);
    println!("durability: what APTPL promises is on the disk before the answer");
}

/// The names of the system calls of each step, which ends with a word on standard output.
fn steps(trace: &str) -> Vec<Vec<&'static str>> {
    let mut steps = vec![Vec::new()];
    for line in trace.lines() {
        let (_, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        if call.starts_with("write(1,") {
            steps.push(Vec::new());
            continue;
        }
        let name = NAME.into_iter().find(|name| call.starts_with(name));
        steps.last_mut().unwrap().extend(name);
    }
    assert_eq!(steps.pop(), Some(Vec::new()));
    steps
}
