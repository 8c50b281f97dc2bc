// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs `strace` on a helper, to delay system calls or make them fail.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use super::process_table::proc_path;
use super::read;
use pr_testkit::process::{command, poll};

/// Maximum time until `strace` has attached to all threads.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Attaches to each current and future thread of `process` with `strace -e EXPRESSION`.
pub(super) fn attach(process: Pid, expression: &str) -> Result<Child> {
    let mut tracer = command("strace")
        .args(["-f", "-qq", "-o", "/run/strace.out", "-e", expression, "-p"])
        .arg(process.as_raw_nonzero().to_string())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start strace")?;
    let is_traced = || -> Result<bool> {
        for task in std::fs::read_dir(proc_path(process, "task"))? {
            let status = read(&task?.path().join("status"))?;
            if status.lines().any(|line| line == "TracerPid:\t0") {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let attached = poll(TIMEOUT, || {
        let status = tracer.try_wait()?;
        ensure!(status.is_none(), "strace exited");
        Ok(is_traced()?.then_some(()))
    })?;
    attached.context("timed out waiting for strace to attach to the helper")?;
    Ok(tracer)
}
