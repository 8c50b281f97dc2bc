// SPDX-License-Identifier: MIT OR Apache-2.0

//! Steps of a request: the commands that a worker sends to the paths and to multipathd, one after
//! another.
//!
//! A command to a path can hang in the kernel, and the thread that sent it cannot be interrupted.
//! Another thread then executes the request again. It sends nothing that was sent before: it
//! receives the recorded results of the earlier steps, and a timeout as that of the step that
//! hangs. The course of a request depends on nothing else, so it continues from there. Until a step
//! hangs, this costs less than executing each step in another thread: that takes as long as many
//! commands themselves.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::command_log;
use crate::command::sg::TransportOutcome;

/// Interval of the checks for a step that hangs.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Recorded result of a step.
#[derive(Clone, Debug)]
pub(super) enum StepResult {
    Path(PathReply),
    /// The reply of multipathd, or the text of an error.
    Multipathd(Result<String, String>),
}

/// Result of a command that was sent to a path.
#[derive(Clone, Debug)]
pub(super) struct PathReply {
    pub(super) outcome: TransportOutcome,
    /// Data from the logical unit.
    pub(super) data: Vec<u8>,
    /// Reason why the device cannot be opened, unless it is gone.
    pub(super) open_error: Option<String>,
}

/// A result, and the time that the step took in microseconds. `None` stands for a step that hangs.
type Recorded = (Option<StepResult>, u64);

/// Steps of the current request of a worker.
#[derive(Debug, Default)]
pub(super) struct Steps {
    state: Mutex<State>,
    /// Notified of changes that [`Steps::watch`] waits for without a timeout.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    results: Vec<Recorded>,
    /// Step that is being executed.
    running: Option<RunningStep>,
    /// Number of the attempt that executes the request. An earlier one hangs.
    attempt: usize,
    is_request_active: bool,
    /// True if [`Steps::watch`] waits without a timeout.
    is_watch_idle: bool,
    end: Option<io::Result<()>>,
}

#[derive(Clone, Copy, Debug)]
struct RunningStep {
    start: Instant,
    /// Time after which the step counts as one that hangs.
    timeout: Duration,
}

/// Event that [`Steps::watch`] waits for.
#[derive(Debug)]
pub(super) enum WatchEvent {
    /// A step hangs. The request must be executed again, as a new [`Attempt`].
    StepHangs,
    /// No further request is executed.
    Ended(io::Result<()>),
}

/// Execution of a request by one thread.
#[derive(Debug)]
pub(super) struct Attempt {
    steps: Arc<Steps>,
    number: usize,
    /// Number of steps with a result in this attempt.
    position: Cell<usize>,
}

impl Steps {
    /// Begins a request, and returns its first attempt.
    pub(super) fn begin_request(self: &Arc<Self>) -> Rc<Attempt> {
        let mut state = self.lock();
        state.results.clear();
        state.is_request_active = true;
        if state.is_watch_idle {
            self.changed.notify_one();
        }
        drop(state);
        self.attempt()
    }

    /// Returns the current attempt, which executes the request from its beginning.
    pub(super) fn attempt(self: &Arc<Self>) -> Rc<Attempt> {
        Rc::new(Attempt {
            steps: Arc::clone(self),
            number: self.lock().attempt,
            position: Cell::new(0),
        })
    }

    /// Ends a request.
    pub(super) fn end_request(&self) {
        self.lock().is_request_active = false;
    }

    /// Ends the last request: the thread that calls this executes no further one.
    pub(super) fn end(&self, result: io::Result<()>) {
        self.lock().end = Some(result);
        self.changed.notify_one();
    }

    /// Waits until a step hangs or no further request is executed.
    pub(super) fn watch(&self) -> WatchEvent {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.end.take() {
                return WatchEvent::Ended(result);
            }
            state.is_watch_idle = !state.is_request_active;
            if state.is_watch_idle {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(RunningStep { start, timeout }) = state.running
                && start.elapsed() >= timeout
            {
                state.running = None;
                state.attempt = state.attempt.saturating_add(1);
                let took = command_log::microseconds(start.elapsed());
                state.results.push((None, took));
                return WatchEvent::StepHangs;
            }
            let waited = self.changed.wait_timeout(state, WATCH_INTERVAL);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// Executes a step, or returns the result that is recorded for it; and the time that the step
    /// took in microseconds. After `timeout`, the step counts as one that hangs: it has no result,
    /// and this does not return.
    pub(super) fn step(
        &self,
        timeout: Duration,
        execute: impl FnOnce() -> StepResult,
    ) -> (Option<StepResult>, u64) {
        let position = self.position.get();
        self.position.set(position.saturating_add(1));
        let start = Instant::now();
        let mut state = self.steps.lock();
        if let Some(recorded) = state.results.get(position) {
            return recorded.clone();
        }
        state.running = Some(RunningStep { start, timeout });
        drop(state);
        let result = execute();
        let recorded = (Some(result), command_log::microseconds(start.elapsed()));
        let mut state = self.steps.lock();
        if state.attempt != self.number {
            drop(state);
            // Another attempt executes the request, and the process exits after it.
            loop {
                thread::park();
            }
        }
        state.running = None;
        state.results.push(recorded.clone());
        recorded
    }

    /// Returns whether the result of the next step is recorded.
    pub(super) fn is_repeating(&self) -> bool {
        self.position.get() < self.steps.lock().results.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(60);

    fn text(text: &str) -> StepResult {
        StepResult::Multipathd(Ok(text.to_owned()))
    }

    fn run(attempt: &Attempt, timeout: Duration, reply: &str) -> Option<String> {
        match attempt.step(timeout, || text(reply)).0? {
            StepResult::Multipathd(reply) => reply.ok(),
            StepResult::Path(_) => None,
        }
    }

    #[test]
    fn request_is_continued_after_the_step_that_hangs() {
        let steps = Arc::new(Steps::default());
        let (release, hang) = channel::<()>();
        let first = Arc::clone(&steps);
        thread::spawn(move || {
            let attempt = first.begin_request();
            run(&attempt, LONG, "one");
            attempt.step(Duration::from_millis(1), || {
                hang.recv().unwrap_err();
                text("too late")
            });
            unreachable!("the step has timed out");
        });
        assert!(matches!(steps.watch(), WatchEvent::StepHangs));
        let attempt = steps.attempt();
        assert!(attempt.is_repeating());
        assert_eq!(run(&attempt, LONG, "again").unwrap(), "one");
        assert_eq!(run(&attempt, LONG, "again"), None);
        assert!(!attempt.is_repeating());
        drop(release);
        assert_eq!(run(&attempt, LONG, "two").unwrap(), "two");
        assert_eq!(steps.lock().results.len(), 3);
    }

    #[test]
    fn second_step_that_hangs_is_found() {
        let steps = Arc::new(Steps::default());
        let (_release, hang) = channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let execute = |attempt: Rc<Attempt>, hang: Arc<Mutex<std::sync::mpsc::Receiver<()>>>| {
            for _ in 0..2 {
                attempt.step(Duration::from_millis(1), || {
                    let _ = hang.lock().map(|hang| hang.recv());
                    text("too late")
                });
            }
        };
        let (first, first_hang) = (Arc::clone(&steps), Arc::clone(&hang));
        thread::spawn(move || execute(first.begin_request(), first_hang));
        assert!(matches!(steps.watch(), WatchEvent::StepHangs));
        let second = Arc::clone(&steps);
        thread::spawn(move || execute(second.attempt(), hang));
        assert!(matches!(steps.watch(), WatchEvent::StepHangs));
        assert_eq!(steps.lock().results.len(), 2);
    }

    #[test]
    fn request_of_an_idle_worker_is_watched() {
        let steps = Arc::new(Steps::default());
        let watched = Arc::clone(&steps);
        let watch = thread::spawn(move || watched.watch());
        while !steps.lock().is_watch_idle {
            thread::yield_now();
        }
        let attempt = steps.begin_request();
        assert_eq!(run(&attempt, LONG, "one").unwrap(), "one");
        steps.end_request();
        steps.end(Ok(()));
        assert!(matches!(watch.join().unwrap(), WatchEvent::Ended(Ok(()))));
    }
}
