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
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::command::command_log;
use crate::command::sg::TransportOutcome;

/// Interval of the checks for a step that hangs.
const WATCH_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Interval of a timer that is stopped.
const NEVER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Recorded result of a step.
#[derive(Clone, Debug)]
pub(super) enum StepResult {
    Path(PathReply),
    /// The replies of multipathd to commands that were sent at once, or the text of an error.
    Multipathd(Result<Vec<String>, String>),
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
#[derive(Debug)]
pub(super) struct Steps {
    state: Mutex<State>,
    /// Timer that [`Steps::watch`] waits for. To start it does not switch to the watching thread,
    /// in contrast to a condition variable, and so does not delay the request.
    timer: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    results: Vec<Recorded>,
    /// Step that is being executed.
    running: Option<RunningStep>,
    /// Number of the attempt that executes the request. An earlier one hangs.
    attempt: usize,
    is_request_active: bool,
    /// True if the timer runs.
    is_watched: bool,
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
    /// Creates the steps of a worker that has no request.
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self {
            state: Mutex::default(),
            timer,
        }))
    }

    /// Begins a request, and returns its first attempt.
    pub(super) fn begin_request(self: &Arc<Self>) -> io::Result<Rc<Attempt>> {
        let mut state = self.lock();
        state.results.clear();
        state.is_request_active = true;
        if !state.is_watched {
            self.set_timer(WATCH_INTERVAL)?;
            state.is_watched = true;
        }
        drop(state);
        Ok(self.attempt())
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
        let mut state = self.lock();
        // Nothing would watch the thread's end without the timer, which has a valid interval.
        let started = self.set_timer(WATCH_INTERVAL);
        state.is_watched = true;
        state.end = Some(result.and(started));
    }

    /// Waits until a step hangs or no further request is executed.
    pub(super) fn watch(&self) -> WatchEvent {
        loop {
            if let Some(event) = self.find_event() {
                return event;
            }
            // A timer that runs expires, and one that is stopped is started by the next request.
            match read(&self.timer, &mut [0; size_of::<u64>()]) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return WatchEvent::Ended(Err(error.into())),
            }
        }
    }

    /// Returns an event if one has occurred. Stops the timer if there is no request.
    fn find_event(&self) -> Option<WatchEvent> {
        let mut state = self.lock();
        if let Some(result) = state.end.take() {
            return Some(WatchEvent::Ended(result));
        }
        if !state.is_request_active {
            state.is_watched = false;
            return match self.set_timer(NEVER) {
                Ok(()) => None,
                Err(error) => Some(WatchEvent::Ended(Err(error))),
            };
        }
        let RunningStep { start, timeout } = state.running?;
        if start.elapsed() < timeout {
            return None;
        }
        state.running = None;
        state.attempt = state.attempt.saturating_add(1);
        let took = command_log::microseconds(start.elapsed());
        state.results.push((None, took));
        Some(WatchEvent::StepHangs)
    }

    fn set_timer(&self, interval: Timespec) -> io::Result<()> {
        let timer = Itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        Ok(())
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
        StepResult::Multipathd(Ok(vec![text.to_owned()]))
    }

    fn run(attempt: &Attempt, timeout: Duration, reply: &str) -> Option<String> {
        match attempt.step(timeout, || text(reply)).0? {
            StepResult::Multipathd(replies) => replies.ok()?.pop(),
            StepResult::Path(_) => None,
        }
    }

    #[test]
    fn request_is_continued_after_the_step_that_hangs() {
        let steps = Steps::new().unwrap();
        let (release, hang) = channel::<()>();
        let first = Arc::clone(&steps);
        thread::spawn(move || {
            let attempt = first.begin_request().unwrap();
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
        let steps = Steps::new().unwrap();
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
        thread::spawn(move || execute(first.begin_request().unwrap(), first_hang));
        assert!(matches!(steps.watch(), WatchEvent::StepHangs));
        let second = Arc::clone(&steps);
        thread::spawn(move || execute(second.attempt(), hang));
        assert!(matches!(steps.watch(), WatchEvent::StepHangs));
        assert_eq!(steps.lock().results.len(), 2);
    }

    #[test]
    fn request_of_an_idle_worker_is_watched() {
        let steps = Steps::new().unwrap();
        let watched = Arc::clone(&steps);
        let watch = thread::spawn(move || watched.watch());
        steps.begin_request().unwrap();
        steps.end_request();
        while steps.lock().is_watched {
            thread::yield_now();
        }
        let attempt = steps.begin_request().unwrap();
        assert_eq!(run(&attempt, LONG, "one").unwrap(), "one");
        steps.end_request();
        steps.end(Ok(()));
        assert!(matches!(watch.join().unwrap(), WatchEvent::Ended(Ok(()))));
    }
}
