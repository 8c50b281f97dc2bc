// SPDX-License-Identifier: MIT OR Apache-2.0

//! Steps of the helper's workers: `strace` stops a worker after each command to a path, so that a
//! test can act between two commands.
//!
//! A stopped worker has received the reply of the path, but does not know it yet. The helper's own
//! trace cannot serve for this, because a worker reports its steps when it has finished.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::commands::PrOutCommand;
use super::device::Reply;
use super::helper_client::HelperClient;
use pr_testkit::process::{command, find, poll, run};

/// Named pipe for the output of `strace`.
const OUTPUT: &str = "/run/strace.steps";

/// Options of `strace`: a thread that has called `ioctl` stops its process when the call returns.
/// `-D` keeps the helper our child. With `--seccomp-bpf`, which would not slow down other system
/// calls, strace 6.1 stops a thread only at its first call.
const OPTIONS: [&str; 9] = [
    "-D",
    "-f",
    "-qq",
    "-y",
    "-e",
    "trace=ioctl",
    "-e",
    "inject=ioctl:signal=SIGSTOP",
    "-o",
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
    reader: JoinHandle<()>,
    /// Set while a test handles the steps. Otherwise, a worker continues at once.
    is_followed: Arc<AtomicBool>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl WorkerSteps {
    /// Returns the steps of a helper, and the command to start it through.
    pub(super) fn create() -> Result<(Self, Vec<OsString>)> {
        if fs::exists(OUTPUT)? {
            fs::remove_file(OUTPUT)?;
        }
        run(command("mkfifo").arg(OUTPUT))?;
        let mut strace: Vec<OsString> = vec![find("strace").context("no strace")?.into()];
        strace.extend(OPTIONS.map(Into::into));
        strace.push(OUTPUT.into());
        let (sender, events) = channel();
        let is_followed = Arc::new(AtomicBool::new(false));
        let (steps, is_sent) = (sender.clone(), Arc::clone(&is_followed));
        let reader = thread::spawn(move || read_steps(&steps, &is_sent));
        let steps = Self {
            reader,
            is_followed,
            events,
            sender,
        };
        Ok((steps, strace))
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

    /// Waits until `strace` has exited, after the helper and its broker.
    pub(super) fn finish(self) -> Result<()> {
        let finished = poll(TIMEOUT, || Ok(self.reader.is_finished().then_some(())))?;
        finished.context("strace did not exit with the broker")
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

/// Returns the thread of a line of `strace`: `123  ioctl(…`.
fn thread_of(line: &str) -> Option<Pid> {
    let (number, _) = line.split_once(' ')?;
    Pid::from_raw(number.parse().ok()?)
}

/// Reads the output of `strace` to its end. Sends the steps of workers, and continues other
/// processes that have called `ioctl`.
fn read_steps(steps: &Sender<Event>, is_followed: &AtomicBool) {
    // `strace` exits if it cannot open the pipe, and the helper does not start then.
    let Ok(output) = File::open(OUTPUT) else {
        return;
    };
    // The last call of each thread. All threads of a stopped process are reported.
    let mut calls = HashMap::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Some(thread) = thread_of(&line) else {
            continue;
        };
        if line.contains(" ioctl(") {
            calls.insert(thread, WorkerStep::decode(&line));
        } else if line.ends_with("--- stopped by SIGSTOP ---")
            && let Some(step) = calls.remove(&thread)
        {
            match step.filter(|_| is_followed.load(Ordering::SeqCst)) {
                // The test has ended if there is no receiver.
                Some(step) => drop(steps.send(Event::Step(step))),
                // The process has been killed if this fails.
                None => drop(kill_process(thread, Signal::CONT)),
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
            r"4711  ioctl(6</dev/sda>, SG_IO, {interface_id='S', cmd_len=16, ",
            r#"cmdp="\x5f\x06\x00\x00\x00\x00\x00\x00\x18\x00", mx_sb_len=96}) = 0"#,
        );
        let step = WorkerStep::decode(line).unwrap();
        assert_eq!(step.to_string(), "sda 5f/06");
        assert_eq!(step.thread, Pid::from_raw(4711).unwrap());
        assert!(WorkerStep::decode("4711  --- stopped by SIGSTOP ---").is_none());
    }
}
