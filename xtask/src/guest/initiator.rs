//! A machine that sends commands to the logical unit, and what has to come of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::lio::Port;
use crate::process::command;

/// Somebody who can run a command line next to the disk.
pub(crate) trait Initiator {
    /// The name for messages.
    fn name(&self) -> &'static str;

    /// The disk as this one sees it.
    fn disk(&self) -> String;

    /// Runs a shell's command line: its exit status, and all that it printed.
    fn execute(&mut self, line: &str) -> Result<(i32, String)>;

    /// Runs a command line and prints what it was and how it ended.
    fn run(&mut self, line: &str) -> Result<Outcome> {
        let who = self.name();
        let start = Instant::now();
        let (code, output) = self
            .execute(line)
            .with_context(|| format!("{who}: {line}"))?;
        println!("{who}: {line} -> {code} ({})", seconds(start.elapsed()));
        Ok(Outcome {
            step: format!("{who}: {line}"),
            code,
            output,
        })
    }

    /// Runs `sg_persist` on the disk.
    fn persist(&mut self, arguments: &str) -> Result<Outcome> {
        let disk = self.disk();
        self.run(&format!("sg_persist --no-inquiry {arguments} {disk}"))
    }

    /// Writes a block to the disk, past the cache.
    fn write_block(&mut self) -> Result<Outcome> {
        let disk = self.disk();
        self.run(&format!(
            "dd if=/dev/zero of={disk} bs=4096 count=1 oflag=direct"
        ))
    }

    /// Reads a block from the disk, past the cache.
    fn read_block(&mut self) -> Result<Outcome> {
        let disk = self.disk();
        self.run(&format!(
            "dd if={disk} of=/dev/null bs=4096 count=1 iflag=direct"
        ))
    }
}

/// How a command line ended, to be checked against what is right.
pub(crate) struct Outcome {
    step: String,
    code: i32,
    output: String,
}

impl Outcome {
    /// Whether it has this exit status.
    pub(crate) fn is(&self, code: i32) -> bool {
        self.code == code
    }

    /// The exit status must be this one.
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

    /// The output must have this in it.
    pub(crate) fn expect_contains(self, text: &str) -> Result<Self> {
        ensure!(
            self.output.contains(text),
            "{}: no {text:?} in the output:\n{}",
            self.step,
            self.output
        );
        Ok(self)
    }

    /// The output must not have this in it.
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

/// A port of the target that the virtual machine itself uses, without a helper.
pub(crate) struct DirectPort<'a>(pub(crate) &'a Port);

impl Initiator for DirectPort<'_> {
    fn name(&self) -> &'static str {
        "port 2"
    }

    fn disk(&self) -> String {
        self.0.block.display().to_string()
    }

    fn execute(&mut self, line: &str) -> Result<(i32, String)> {
        // One pipe for both streams keeps them in order.
        let output = command("sh")
            .arg("-c")
            .arg(format!("exec 2>&1; {line}"))
            .output()
            .context("cannot start sh")?;
        let code = output.status.code().context("ended by a signal")?;
        Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}
