// SPDX-License-Identifier: MIT OR Apache-2.0

//! An initiator that runs commands on the logical unit, and checks of their results.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::lio_target::Port;
use pr_testkit::process::command;

/// Exit status of `sg_persist` for RESERVATION CONFLICT (`sg3_utils(8)`, EXIT STATUS).
pub(super) const CONFLICT: i32 = 24;

/// Exit status of `sg_persist` and `sg_turs` for a unit attention.
pub(super) const UNIT_ATTENTION: i32 = 6;

/// A machine that can run a command line with the disk.
pub(crate) trait Initiator {
    /// Returns the name for messages.
    fn name(&self) -> &'static str;

    /// Returns the path of the disk on this machine.
    fn disk(&self) -> String;

    /// Runs a shell command line; returns its exit status and output.
    fn execute(&mut self, line: &str) -> Result<(i32, String)>;

    /// Runs a command line and prints it with its exit status.
    fn run(&mut self, line: &str) -> Result<CommandOutput> {
        let name = self.name();
        let start = Instant::now();
        let (code, output) = self
            .execute(line)
            .with_context(|| format!("{name}: {line}"))?;
        println!("{name}: {line} -> {code} ({})", seconds(start.elapsed()));
        Ok(CommandOutput {
            step: format!("{name}: {line}"),
            code,
            output,
        })
    }

    /// Runs `sg_persist` on the disk.
    fn persist(&mut self, arguments: &str) -> Result<CommandOutput> {
        let disk = self.disk();
        self.run(&format!("sg_persist --no-inquiry {arguments} {disk}"))
    }

    /// Writes a block to the disk with direct I/O.
    fn write_block(&mut self) -> Result<CommandOutput> {
        let disk = self.disk();
        self.run(&format!(
            "dd if=/dev/zero of={disk} bs=4096 count=1 oflag=direct"
        ))
    }

    /// Reads a block from the disk with direct I/O.
    fn read_block(&mut self) -> Result<CommandOutput> {
        let disk = self.disk();
        self.run(&format!(
            "dd if={disk} of=/dev/null bs=4096 count=1 iflag=direct"
        ))
    }
}

/// Result of a command line.
pub(crate) struct CommandOutput {
    step: String,
    code: i32,
    output: String,
}

impl CommandOutput {
    /// Returns whether the exit status is `code`.
    pub(crate) fn has_code(&self, code: i32) -> bool {
        self.code == code
    }

    /// Returns whether the output contains `text`.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.output.contains(text)
    }

    /// Fails if the exit status is another one.
    pub(crate) fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "{}: exit status {} instead of {code}, output:\n{}",
            self.step,
            self.code,
            self.output
        );
        Ok(self)
    }

    /// Fails if the output does not contain `text`.
    pub(crate) fn expect_contains(self, text: &str) -> Result<Self> {
        ensure!(
            self.output.contains(text),
            "{}: no {text:?} in the output:\n{}",
            self.step,
            self.output
        );
        Ok(self)
    }

    /// Fails if the output contains `text`.
    pub(crate) fn expect_lacks(self, text: &str) -> Result<Self> {
        ensure!(
            !self.output.contains(text),
            "{}: {text:?} in the output:\n{}",
            self.step,
            self.output
        );
        Ok(self)
    }
}

/// A port of the target that the virtual machine uses without a helper.
pub(crate) struct DirectPort<'a>(pub(crate) &'a Port);

impl Initiator for DirectPort<'_> {
    fn name(&self) -> &'static str {
        "direct port"
    }

    fn disk(&self) -> String {
        self.0.block.display().to_string()
    }

    fn execute(&mut self, line: &str) -> Result<(i32, String)> {
        // Both streams share a pipe, which keeps their order.
        let output = command("sh")
            .arg("-c")
            .arg(format!("exec 2>&1; {line}"))
            .output()
            .context("cannot start sh")?;
        let code = output.status.code().context("killed by a signal")?;
        Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}
