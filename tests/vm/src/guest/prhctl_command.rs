// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs of `prhctl` with the machine's helper, and checks of their output.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::helper::SOCKET;
use pr_testkit::process::command_line;

/// Exit statuses of `sg_persist`, which `prhctl` shares (`sg3_utils(8)`).
pub(super) const ILLEGAL_REQUEST: i32 = 5;
pub(super) const UNIT_ATTENTION: i32 = 6;
pub(super) const INVALID_OPCODE: i32 = 9;
pub(super) const ABORTED_COMMAND: i32 = 11;
pub(super) const CONFLICT: i32 = 24;

/// The executable.
#[derive(Clone, Copy)]
pub(super) struct Prhctl<'a>(pub(super) &'a Path);

impl Prhctl<'_> {
    /// Runs a subcommand for a disk.
    pub(super) fn run(self, subcommand: &[&str], disk: &Path, options: &[&str]) -> Result<Output> {
        let mut process = Command::new(self.0);
        process.stdin(Stdio::null()).args(["-k", SOCKET]);
        process.args(subcommand).arg(disk).args(options);
        Output::from_process(&mut process)
    }

    /// Runs a command line without a socket, so that `prhctl` finds the helpers.
    pub(super) fn run_line(self, arguments: &str) -> Result<Output> {
        let mut process = Command::new(self.0);
        process.stdin(Stdio::null());
        Output::from_process(process.args(arguments.split_whitespace()))
    }

    /// Returns the JSON document of a query, which must succeed.
    pub(super) fn query(self, subcommand: &str, disk: &Path) -> Result<Value> {
        let output = self.run(&["--json", subcommand], disk, &[])?;
        output.expect_status(0)?.json()
    }
}

/// Output of `prhctl`.
pub(super) struct Output {
    pub(super) line: String,
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Output {
    fn from_process(process: &mut Command) -> Result<Self> {
        let line = command_line(process);
        let output = process.output();
        let output = output.with_context(|| format!("cannot start {line}"))?;
        Ok(Self {
            line,
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    pub(super) fn expect_status(self, status: i32) -> Result<Self> {
        let Self { line, stderr, .. } = &self;
        ensure!(
            self.status == Some(status),
            "{line} exited with {:?} instead of {status}: {stderr}",
            self.status
        );
        Ok(self)
    }

    /// Fails unless standard error contains each of the fragments.
    pub(super) fn expect_stderr(self, fragments: &[&str]) -> Result<Self> {
        let Self { line, stderr, .. } = &self;
        for fragment in fragments {
            ensure!(
                stderr.contains(fragment),
                "{line}: no {fragment:?}: {stderr}"
            );
        }
        Ok(self)
    }

    /// Fails unless standard output contains each of the fragments.
    pub(super) fn expect_stdout(self, fragments: &[&str]) -> Result<Self> {
        let Self { line, stdout, .. } = &self;
        for fragment in fragments {
            ensure!(
                stdout.contains(fragment),
                "{line}: no {fragment:?}: {stdout}"
            );
        }
        Ok(self)
    }

    /// Fails if standard error contains a fragment.
    pub(super) fn expect_no(self, fragment: &str) -> Result<Self> {
        let Self { line, stderr, .. } = &self;
        ensure!(!stderr.contains(fragment), "{line}: {fragment:?}: {stderr}");
        Ok(self)
    }

    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{}: {}", self.line, self.stdout))
    }
}
