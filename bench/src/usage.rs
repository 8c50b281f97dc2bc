//! Resource use of a process as the kernel counts it: processor time, memory and threads.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

/// Returns the processor time that a process has used, including all of its threads, also exited
/// ones. Resolution: nanoseconds.
pub(super) fn processor_time(process: u32) -> Result<Duration> {
    let process = Pid::from_raw(i32::try_from(process)?);
    ClockId::pid_cpu_clock_id(process)
        .and_then(ClockId::now)
        .map(Duration::from)
        .with_context(|| format!("cannot read the processor time of process {process}"))
}

/// Returns the proportional set size of a process and its children, in KiB.
pub(super) fn memory(process: u32) -> Result<u64> {
    let mut sum = 0;
    for process in with_children(process)? {
        let path = format!("/proc/{process}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        sum += number(&text, "Pss:").with_context(|| format!("{path} has no Pss"))?;
    }
    Ok(sum)
}

/// Returns the number of threads of a process.
pub(super) fn threads(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    number(&text, "Threads:").with_context(|| format!("{path} has no Threads"))
}

/// Returns a process and its children.
fn with_children(process: u32) -> Result<Vec<u32>> {
    let mut processes = vec![process];
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let name = entry.context("cannot list /proc")?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The file does not exist if the process has exited meanwhile.
        let status = fs::read_to_string(format!("/proc/{other}/status")).unwrap_or_default();
        if number(&status, "PPid:") == Some(process.into()) {
            processes.push(other);
        }
    }
    Ok(processes)
}

/// Returns the number after `name` at the start of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{self, Command};
    use std::thread;
    use std::time::Instant;

    #[test]
    fn number_is_found_by_whole_name() {
        let rollup = "5581-7ffd ---p 00000000 00:00 0    [rollup]\n\
                      Rss:    1044 kB\nPss:     181 kB\nPss_Dirty:   76 kB\n";
        assert_eq!(number(rollup, "Pss:"), Some(181));
        assert_eq!(number(rollup, "Swap:"), None);
        assert_eq!(number("Threads:\t3\nSigQ:\t0/1\n", "Threads:"), Some(3));
    }

    #[test]
    fn processor_time_includes_exited_threads() {
        let before = processor_time(process::id()).unwrap();
        let work = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(20) {}
        };
        thread::spawn(work).join().unwrap();
        let used = processor_time(process::id()).unwrap() - before;
        assert!(used > Duration::ZERO, "{used:?}");
    }

    #[test]
    fn children_are_included() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = with_children(process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&process::id()) && found.contains(&child.id()));
        assert!(memory(process::id()).unwrap() > 0);
        assert!(threads(process::id()).unwrap() > 0);
    }
}
