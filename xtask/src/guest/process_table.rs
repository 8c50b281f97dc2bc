//! The machine's processes, as the kernel shows them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use super::read;
use crate::process::poll;

/// The helper's own process, and those that it has for multipath maps.
pub(super) const HELPER: &str = "qemu-pr-helper";
pub(super) const BROKER: &str = "pr-broker";
pub(super) const WORKER: &str = "pr-worker";

/// The processes with this name.
pub(super) fn all(name: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // One that ends meanwhile is none.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let is_dead = stat.contains(") Z ");
        if comm.trim_end() == name && !is_dead {
            found.extend(number.and_then(Pid::from_raw));
        }
    }
    Ok(found)
}

/// The only process with this name.
pub(super) fn one(name: &str) -> Result<Pid> {
    let found = all(name)?;
    ensure!(found.len() == 1, "{} processes {name}", found.len());
    Ok(found[0])
}

/// Waits until there is no process with this name.
pub(super) fn gone(name: &str, patience: Duration) -> Result<()> {
    let gone = poll(patience, || Ok(all(name)?.is_empty().then_some(())))?;
    gone.with_context(|| format!("{name} does not end"))
}

/// A file or folder of a process.
pub(super) fn of(process: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", process.as_raw_nonzero()))
}

/// Each thread of a process must have these lines in its status. Gives the lines.
pub(super) fn expect_status(process: Pid, expected: &[(&str, &str)]) -> Result<Vec<String>> {
    let lines: Vec<String> = expected
        .iter()
        .map(|(name, value)| format!("{name}:\t{value}"))
        .collect();
    for task in fs::read_dir(of(process, "task"))? {
        let status = read(&task?.path().join("status"))?;
        for line in &lines {
            let is_so = status.lines().any(|found| found == line);
            ensure!(is_so, "no {line:?} in\n{status}");
        }
    }
    Ok(lines)
}
