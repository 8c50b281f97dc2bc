// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes of the machine in `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use super::read;
use pr_testkit::process::poll;

/// Name of the helper's process, and of its processes for multipath maps.
pub(super) const HELPER: &str = "qemu-pr-helper";
pub(super) const BROKER: &str = "pr-broker";
pub(super) const WORKER: &str = "pr-worker";

/// Returns the processes with this name.
pub(super) fn all(name: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // The files do not exist if the process has exited meanwhile.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let is_zombie = stat.contains(") Z ");
        if comm.trim_end() == name && !is_zombie {
            found.extend(number.and_then(Pid::from_raw));
        }
    }
    Ok(found)
}

/// Returns the only process with this name.
pub(super) fn one(name: &str) -> Result<Pid> {
    let found = all(name)?;
    ensure!(
        found.len() == 1,
        "{} processes are named {name}",
        found.len()
    );
    Ok(found[0])
}

/// Waits until no process has this name.
pub(super) fn wait_until_gone(name: &str, timeout: Duration) -> Result<()> {
    let gone = poll(timeout, || Ok(all(name)?.is_empty().then_some(())))?;
    gone.with_context(|| format!("{name} did not exit"))
}

/// Returns the path of a file or directory of a process.
pub(super) fn proc_path(process: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", process.as_raw_nonzero()))
}

/// Checks that each thread of a process has these lines in its status. Returns the lines.
pub(super) fn expect_status(process: Pid, expected: &[(&str, &str)]) -> Result<Vec<String>> {
    let lines: Vec<String> = expected
        .iter()
        .map(|(name, value)| format!("{name}:\t{value}"))
        .collect();
    for task in fs::read_dir(proc_path(process, "task"))? {
        let status = read(&task?.path().join("status"))?;
        for line in &lines {
            let is_present = status.lines().any(|found| found == line);
            ensure!(is_present, "no {line:?} in\n{status}");
        }
    }
    Ok(lines)
}
