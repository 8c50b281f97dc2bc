//! How many threads there are: always one that waits, and no more than are of use.

use std::io;
use std::time::Duration;

use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use super::sync::thread;
use crate::trace::trace;

/// How long a thread that is not the last one waits before it ends. Long enough that a cluster's
/// periodic commands do not start and end threads all day.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// The deepest call, a log line within a command, takes some kilobytes; memory is only used as far
/// as it is touched.
const STACK_SIZE: usize = 256 * 1024;

/// The most threads: each may be a command at a device that hangs. It is far below what makes memory
/// mappings run out, where the standard library would end the process.
const MOST_THREADS: usize = 4096;

/// The most threads that stay with their clients. Each costs its memory for as long as its client is busy.
/// In the model some are to be without that.
const MOST_STAYING: usize = if cfg!(shuttle) { 1 } else { 64 };

/// Counts the threads, and those that wait for something to happen.
///
/// A thread counts as waiting from its start, or from [`Crew::back_to_waiting`], until
/// [`Crew::called`]. One that was woken and has not called yet is counted too; that is safe, because
/// before it blocks it comes to [`Crew::ensure_waiting`] itself.
#[derive(Debug)]
pub(super) struct Crew {
    waiting: AtomicUsize,
    present: AtomicUsize,
    staying: AtomicUsize,
    /// The last thread that was wanted could not be started.
    is_short: AtomicBool,
}

/// The right to stay with a client that has nothing to ask at the moment, until it is dropped.
#[derive(Debug)]
pub(super) struct Stay<'a>(&'a Crew);

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.0.staying.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Crew {
    pub(super) const fn new() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            staying: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
        }
    }

    /// Lets the calling thread stay with its client, unless many do, or others lack threads. Another thread has
    /// to be waiting.
    pub(super) fn stay(&self) -> Option<Stay<'_>> {
        if self.is_short.load(Ordering::SeqCst) {
            return None;
        }
        let more = |staying: usize| (staying < MOST_STAYING).then(|| staying.saturating_add(1));
        let before = self
            .staying
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        before.is_ok().then(|| Stay(self))
    }

    /// Starts a thread if none is waiting. `work` makes what the thread does.
    pub(super) fn ensure_waiting<F>(&self, work: impl FnOnce() -> F) -> io::Result<()>
    where
        F: FnOnce() + Send + 'static,
    {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        if self.present.load(Ordering::SeqCst) >= MOST_THREADS {
            return Err(io::Error::other(format!(
                "there are {MOST_THREADS}, the most there can be"
            )));
        }
        // Counted before it runs, so that others do not start one each.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let before = self.present.fetch_add(1, Ordering::SeqCst);
        let started = thread::Builder::new()
            .name("pr-helper".into())
            .stack_size(STACK_SIZE)
            .spawn(work());
        self.is_short.store(started.is_err(), Ordering::SeqCst);
        match started {
            Ok(_) => {
                trace!(pr_helper_thread_started(count(before)));
                Ok(())
            }
            Err(error) => {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                self.present.fetch_sub(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    /// The calling thread has something to do.
    pub(super) fn called(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// The calling thread is going to wait again.
    pub(super) fn back_to_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// How long the calling thread should wait before it asks whether it may leave: for ever, if it
    /// is the only one.
    pub(super) fn patience(&self) -> Option<Duration> {
        (self.waiting.load(Ordering::SeqCst) > 1).then_some(QUIET)
    }

    /// Returns whether one thread is left, which waits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.present.load(Ordering::SeqCst) == 1 && self.waiting.load(Ordering::SeqCst) == 1
    }

    /// Whether the calling thread, which waits, is to end because another one waits too.
    pub(super) fn leave_if_surplus(&self) -> bool {
        let leave = |waiting: usize| {
            if waiting > 1 {
                waiting.checked_sub(1)
            } else {
                None
            }
        };
        let left = self
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, leave);
        if left.is_ok() {
            let before = self.present.fetch_sub(1, Ordering::SeqCst);
            trace!(pr_helper_thread_ended(count(before.saturating_sub(1))));
        }
        left.is_ok()
    }
}

fn count(threads: usize) -> u64 {
    u64::try_from(threads).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thread_is_started_only_when_the_first_is_called() {
        let crew = Crew::new();
        crew.ensure_waiting(|| || {}).unwrap();
        crew.ensure_waiting(|| -> fn() { panic!("one waits already") })
            .unwrap();
        crew.called();
        let mut started = false;
        crew.ensure_waiting(|| {
            started = true;
            || {}
        })
        .unwrap();
        assert!(started);
    }

    #[test]
    fn so_many_stay_with_their_clients() {
        let crew = Crew::new();
        let mut staying: Vec<_> = (0..MOST_STAYING).filter_map(|_| crew.stay()).collect();
        assert_eq!(staying.len(), MOST_STAYING);
        assert!(crew.stay().is_none());
        staying.pop();
        assert!(crew.stay().is_some());
    }

    #[test]
    fn the_last_thread_that_waits_stays() {
        let crew = Crew::new();
        crew.back_to_waiting();
        assert_eq!(crew.patience(), None);
        crew.back_to_waiting();
        assert_eq!(crew.patience(), Some(QUIET));
        assert!(crew.leave_if_surplus());
        assert!(!crew.leave_if_surplus());
    }
}
