// SPDX-License-Identifier: MIT OR Apache-2.0

//! Resource use of a process as the kernel counts it: processor time, memory and threads.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use pr_testkit::procfs;
use pr_testkit::usage::Usage;
use rustix::process::Pid;

/// Returns the processor time that a process has used, including all of its threads, also exited
/// ones. Resolution: nanoseconds.
pub(super) fn processor_time(process: i32) -> Result<Duration> {
    ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(process))
        .and_then(ClockId::now)
        .map(Duration::from)
        .with_context(|| format!("cannot read the processor time of process {process}"))
}

/// Returns the proportional set size of a process and its children, in KiB.
pub(super) fn memory(process: Pid) -> u64 {
    let children = procfs::children(process).into_iter();
    let processes = children.chain([process]);
    processes.map(|one| Usage::from_pid(one).proportional).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{self, Command, Stdio};
    use std::thread;
    use std::time::Instant;

    #[test]
    fn processor_time_includes_exited_threads() {
        let process = process::id().cast_signed();
        let before = processor_time(process).unwrap();
        let work = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(20) {}
        };
        thread::spawn(work).join().unwrap();
        let used = processor_time(process).unwrap() - before;
        assert!(used > Duration::ZERO, "{used:?}");
    }

    #[test]
    fn memory_includes_children() {
        let mut shell = Command::new("sh")
            .args(["-c", "exec 3<&0; cat <&3 & echo; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The line shows that the child exists. It ends at the end of its standard input.
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        let process = Pid::from_child(&shell);
        assert!(memory(process) > Usage::from_pid(process).proportional);
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
    }
}
