// SPDX-License-Identifier: MIT OR Apache-2.0

//! The controlling end of a role's process.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use pr_testkit::process::{command_line, wait_timeout};

/// Maximum time for the process to exit after its stdin was closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The process of a role.
pub(super) struct Worker {
    process: Child,
    command: String,
    /// `None` once the process was told to exit.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts `program` with the arguments of a role and waits until it is ready.
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let command_line = command_line(&command);
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {command_line}"))?;
        let output = process.stdout.take().context("the role has no stdout")?;
        let mut worker = Self {
            input: process.stdin.take(),
            output: BufReader::new(output),
            process,
            command: command_line,
        };
        let line = worker.read_line()?;
        ensure!(line == "ready\n", "{} failed", worker.command);
        Ok(worker)
    }

    /// Sends the start signal.
    pub(super) fn send_start(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("the role has no stdin")?;
        input
            .write_all(b"\n")
            .context("cannot write to the role's stdin")
    }

    /// Reads the result.
    pub(super) fn result<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.read_line()?;
        serde_json::from_str(&line).with_context(|| format!("{} failed", self.command))
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("cannot read the role's stdout")?;
        Ok(line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        let ended = wait_timeout(&mut self.process, EXIT_TIMEOUT);
        if !matches!(ended, Ok(Some(_))) {
            eprintln!(
                "bench: {} did not exit after its stdin was closed; killing it",
                self.command
            );
            let _already_gone = self.process.kill();
            let _already_gone = self.process.wait();
        }
    }
}
