// SPDX-License-Identifier: MIT OR Apache-2.0

//! Steps of the helper's workers: `strace` stops a worker after each command to a path, so that a
//! test can act between two commands.
//!
//! A stopped worker has received the reply of the path, but does not know it yet. The helper's own
//! trace cannot serve for this, because a worker reports its steps when it has finished.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::commands::PrOutCommand;
use super::device::Reply;
use super::helper_client::HelperClient;
use crate::guest::process_table::{BROKER, one};
use crate::guest::strace;
use pr_testkit::process::wait_timeout;

/// Options of `strace`: a thread that has called `ioctl` stops its process when the call returns.
const OPTIONS: [&str; 5] = [
    "-y",
    "-e",
    "trace=ioctl",
    "-e",
    "inject=ioctl:signal=SIGSTOP",
];

/// Maximum time between two steps, and until `strace` exits with the broker.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A command that a worker has sent to a path.
pub(super) struct WorkerStep {
    thread: Pid,
    path: String,
    /// Operation code and service action, `5f/00`.
    command: String,
}

enum Event {
    Step(WorkerStep),
    Reply(Result<Reply>),
}

/// The steps of all workers of a helper.
pub(super) struct WorkerSteps {
    tracer: Child,
    /// Set while a test handles the steps. Otherwise, a worker continues at once.
    is_followed: Arc<AtomicBool>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl WorkerSteps {
    /// Attaches to the broker of the running helper.
    pub(super) fn attach() -> Result<Self> {
        let mut tracer = strace::attach_with(one(BROKER)?, &OPTIONS, Stdio::piped())?;
        let output = tracer.stderr.take().context("strace has no stderr")?;
        let (sender, events) = channel();
        let is_followed = Arc::new(AtomicBool::new(false));
        let (steps, is_sent) = (sender.clone(), Arc::clone(&is_followed));
        thread::spawn(move || read_steps(output, &steps, &is_sent));
        Ok(Self {
            tracer,
            is_followed,
            events,
            sender,
        })
    }

    /// Sends a command and calls `at_step` after each step of its worker, which then continues.
    pub(super) fn send(
        &self,
        guest: &mut HelperClient,
        pr_out: &PrOutCommand,
        mut at_step: impl FnMut(&WorkerStep) -> Result<()>,
    ) -> Result<Reply> {
        self.is_followed.store(true, Ordering::SeqCst);
        let sender = self.sender.clone();
        let reply = thread::scope(|scope| {
            scope.spawn(move || sender.send(Event::Reply(guest.reserve_out(pr_out))));
            loop {
                let event = self.events.recv_timeout(TIMEOUT);
                match event.context("timed out waiting for a worker's next step")? {
                    Event::Reply(reply) => return reply,
                    Event::Step(step) => {
                        at_step(&step)?;
                        step.resume()?;
                    }
                }
            }
        });
        self.is_followed.store(false, Ordering::SeqCst);
        reply
    }

    /// Waits until `strace` has exited with the broker.
    pub(super) fn finish(mut self) -> Result<()> {
        let exited = wait_timeout(&mut self.tracer, TIMEOUT)?;
        exited.context("strace did not exit with the broker")?;
        Ok(())
    }
}

impl WorkerStep {
    /// Returns the name of the path, `sdX`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns whether the command is PERSISTENT RESERVE OUT.
    pub(super) fn is_pr_out(&self) -> bool {
        self.command.starts_with("5f")
    }

    fn resume(&self) -> Result<()> {
        kill_process(self.thread, Signal::CONT).context("cannot continue the worker")
    }

    /// Decodes a line of `strace`.
    fn decode(line: &str) -> Option<Self> {
        let thread = thread_of(line)?;
        let (_, call) = line.split_once("ioctl(")?;
        let (_, path) = call.split_once("</dev/")?;
        // With `-y`, some versions append the device number to the path.
        let (path, _) = path.split_once(['<', '>'])?;
        let (_, cdb) = call.split_once("cmdp=\"\\x")?;
        Some(Self {
            thread,
            path: path.to_owned(),
            command: cdb.get(..6)?.replace("\\x", "/"),
        })
    }
}

impl fmt::Display for WorkerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.command)
    }
}

/// Returns the thread of a line of `strace`: `[pid  123] …`.
fn thread_of(line: &str) -> Option<Pid> {
    let (number, _) = line.strip_prefix("[pid")?.split_once(']')?;
    Pid::from_raw(number.trim().parse().ok()?)
}

/// Reads the output of `strace` to its end, and sends or continues each step.
fn read_steps(output: ChildStderr, steps: &Sender<Event>, is_followed: &AtomicBool) {
    let mut last = None;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some(step) = WorkerStep::decode(&line) {
            last = Some(step);
        } else if line.ends_with("--- stopped by SIGSTOP ---")
            && let Some(step) = last.take_if(|step| thread_of(&line) == Some(step.thread))
        {
            if is_followed.load(Ordering::SeqCst) {
                // The test has ended if there is no receiver.
                let _ = steps.send(Event::Step(step));
            } else {
                // The worker has been killed if this fails.
                let _ = step.resume();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_is_decoded_from_strace() {
        let line = concat!(
            r"[pid  4711] ioctl(6</dev/sda>, SG_IO, {interface_id='S', cmd_len=16, ",
            r#"cmdp="\x5f\x06\x00\x00\x00\x00\x00\x00\x18\x00", mx_sb_len=96}) = 0"#,
        );
        let step = WorkerStep::decode(line).unwrap();
        assert_eq!(step.to_string(), "sda 5f/06");
        assert_eq!(step.thread, Pid::from_raw(4711).unwrap());
        assert!(WorkerStep::decode("[pid  4711] --- stopped by SIGSTOP ---").is_none());
    }
}
