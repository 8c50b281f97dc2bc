//! A part of the benchmark in a process of its own, seen from here.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use crate::process::{shown, wait_for_end};

/// How long a part may take to leave once it is told so.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process.
pub(super) struct Worker {
    process: Child,
    command: String,
    /// Taken when it is to leave.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts `program` for a part and waits until it is ready.
    pub(super) fn start(program: &Path, words: &[OsString]) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let shown = shown(&command);
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let output = process.stdout.take().context("a part has no output")?;
        let mut worker = Self {
            input: process.stdin.take(),
            output: BufReader::new(output),
            process,
            command: shown,
        };
        let line = worker.line()?;
        ensure!(line == "ready\n", "{} failed", worker.command);
        Ok(worker)
    }

    /// Has it begin.
    pub(super) fn begin(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("a part has no input")?;
        input.write_all(b"\n").context("cannot speak to a part")
    }

    /// What it has found.
    pub(super) fn found<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("{} failed", self.command))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("cannot listen to a part")?;
        Ok(line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        let ended = wait_for_end(&mut self.process, PATIENCE);
        if !matches!(ended, Ok(Some(_))) {
            eprintln!("xtask: {} does not leave, it is killed", self.command);
            let _already_gone = self.process.kill();
            let _already_gone = self.process.wait();
        }
    }
}
