// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs other programs and returns readable errors.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::TEST_TIMEOUT;

/// Finds a program in `PATH` and in `/usr/sbin` and `/sbin`, which an ordinary user's `PATH` lacks
/// on Debian. An absolute path is returned if it is a file.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Returns a command for a program that [`find`] looks up.
pub fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)))
}

/// Runs a command to its end; its output goes to our own.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", command_line(command)))?;
    ensure!(
        status.success(),
        "{} failed with {status}",
        command_line(command)
    );
    Ok(())
}

/// Runs a command to its end and returns its standard output; its standard error is part of an
/// error.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command_line(command)))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} failed with {}{}{}",
        command_line(command),
        output.status,
        if stderr.is_empty() { "" } else { ": " },
        stderr.trim()
    );
    Ok(output.stdout)
}

/// Like [`output`], for a command that prints text.
pub fn text(command: &mut Command) -> Result<String> {
    String::from_utf8(output(command)?)
        .with_context(|| format!("the output of {} is not UTF-8", command_line(command)))
}

/// Formats the command line as a user would type it.
pub fn command_line(command: &Command) -> String {
    let arguments = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let arguments: Vec<_> = arguments
        .map(|argument| argument.to_string_lossy())
        .collect();
    arguments.join(" ")
}

/// Waits for a process for at most `limit`; `None` if it is still running then.
pub fn wait_timeout(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    poll(limit, || {
        child.try_wait().context("cannot wait for a process")
    })
}

/// Calls `attempt` repeatedly until it returns a value, or for at most `limit` (`None`).
pub fn poll<T>(
    limit: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + limit;
    loop {
        let value = attempt()?;
        if value.is_some() || Instant::now() >= end {
            return Ok(value);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Stops a process, and waits until each of its threads has stopped. One of them receives the
/// signal, and the others continue until that one runs.
pub fn stop(process: Pid) -> Result<()> {
    kill_process(process, Signal::STOP)?;
    let process = process.as_raw_nonzero();
    let stopped = poll(TEST_TIMEOUT, || {
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread can have exited.
            let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            if !stat.is_empty() && !stat.contains(") T ") {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    stopped.with_context(|| format!("process {process} did not stop"))
}

/// Runs `work` and prints the time it took.
pub fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    println!("time: {what}: {:.1} s", start.elapsed().as_secs_f32());
    result
}
