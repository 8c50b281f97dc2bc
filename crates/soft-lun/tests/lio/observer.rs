// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prints a sequence if its last command gets no response. A command can hang LIO, and with it the
//! process that has sent the command.

use std::mem;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Step;
use crate::kernel::Kernel;
use crate::sequence;

/// Interval between two checks.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The steps that were sent since the unit was last reset.
#[derive(Debug, Default)]
struct SentSteps {
    steps: Vec<Step>,
    /// The time when the last command was sent, while it has no response.
    pending_since: Option<Instant>,
}

/// A thread that prints the sequence if its last command gets no response.
#[derive(Debug)]
pub(crate) struct HangObserver(Arc<Mutex<SentSteps>>);

impl HangObserver {
    /// Starts the thread, which ends after the observer is dropped.
    pub(crate) fn start(kernel: Kernel, timeout: Duration) -> Self {
        let sent = Arc::new(Mutex::new(SentSteps::default()));
        let observed = Arc::downgrade(&sent);
        thread::spawn(move || {
            while let Some(sent) = observed.upgrade() {
                check_timeout(&mut sent.lock().unwrap(), kernel, timeout);
                drop(sent);
                thread::sleep(POLL_INTERVAL);
            }
        });
        HangObserver(sent)
    }

    /// Records that the unit was reset.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap().steps.clear();
    }

    /// Records a command before it is sent.
    pub(crate) fn send(&self, step: &Step) {
        let mut sent = self.0.lock().unwrap();
        sent.steps.push(step.clone());
        sent.pending_since = Some(Instant::now());
    }

    /// Records that the command got a response.
    pub(crate) fn complete(&self) {
        self.0.lock().unwrap().pending_since = None;
    }
}

fn check_timeout(sent: &mut SentSteps, kernel: Kernel, timeout: Duration) {
    if sent
        .pending_since
        .is_some_and(|since| since.elapsed() > timeout)
    {
        sent.pending_since = None;
        let text = sequence::text(kernel, &mem::take(&mut sent.steps));
        println!("\nlio: no response to the last of these commands:\n{text}");
    }
}
