//! `strace` on a helper that runs: it delays or fails system calls, as a slow device or a full
//! machine does.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use super::process_table::of;
use super::read;
use crate::process::{command, poll};

/// The time in which `strace` must have attached to all threads.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Attaches to each thread of `process`, those to come included, with `strace -e EXPRESSION`.
pub(super) fn attach(process: Pid, expression: &str) -> Result<Child> {
    let mut tracer = command("strace")
        .args(["-f", "-qq", "-o", "/run/strace.out", "-e", expression, "-p"])
        .arg(process.as_raw_nonzero().to_string())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start strace")?;
    let is_traced = || -> Result<bool> {
        for task in std::fs::read_dir(of(process, "task"))? {
            let status = read(&task?.path().join("status"))?;
            if status.lines().any(|line| line == "TracerPid:\t0") {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let attached = poll(TIMEOUT, || {
        let ended = tracer.try_wait()?;
        ensure!(ended.is_none(), "strace has ended");
        Ok(is_traced()?.then_some(()))
    })?;
    attached.context("strace does not attach to the helper")?;
    Ok(tracer)
}
