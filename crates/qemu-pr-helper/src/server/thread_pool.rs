// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pool of worker threads. It keeps one thread idle, and ends surplus threads.

use std::io;
use std::time::Duration;

use super::sync::Builder;
use super::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::logging::RateLimit;
use crate::trace::trace;

/// Time that a surplus worker waits before it ends. It is long enough that a cluster's periodic
/// commands do not start and end threads all day.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Stack size in bytes. The deepest call, a log line within a command, takes some kilobytes; memory
/// is used only as far as it is touched.
const STACK_SIZE: usize = 256 * 1024;

/// Maximum number of threads: each can be a command at a device that hangs. It is far below the
/// number at which memory mappings run out, where the standard library would abort the process.
const MAX_THREADS: usize = 4096;

/// Maximum number of workers that linger. Each costs its memory as long as its client is busy.
const MAX_LINGERING: usize = 64;

/// Counters of worker threads.
///
/// A worker counts as idle from its start, or from [`ThreadPool::mark_idle`], until
/// [`ThreadPool::mark_busy`]. A worker that has been woken and has not called that yet is counted
/// too, which is safe, because it calls [`ThreadPool::ensure_idle`] itself before it blocks.
#[derive(Debug)]
pub(super) struct ThreadPool {
    idle: AtomicUsize,
    total: AtomicUsize,
    lingering: AtomicUsize,
    pub(super) max_lingering: usize,
    /// The last attempt to start a thread failed.
    spawn_failed: AtomicBool,
    spawn_warning: RateLimit,
}

/// Permit to linger with a client that has no request at the moment. Dropping it frees it.
#[derive(Debug)]
pub(super) struct LingerPermit<'a>(&'a ThreadPool);

impl Drop for LingerPermit<'_> {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ThreadPool {
    /// Creates a pool without threads.
    pub(super) const fn new() -> Self {
        Self {
            idle: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
            lingering: AtomicUsize::new(0),
            max_lingering: MAX_LINGERING,
            spawn_failed: AtomicBool::new(false),
            spawn_warning: RateLimit::new(),
        }
    }

    /// Acquires a permit to linger; `None` if too many workers linger, or threads are short.
    /// Another worker must be idle.
    pub(super) fn try_linger(&self) -> Option<LingerPermit<'_>> {
        if self.spawn_failed.load(Ordering::SeqCst) {
            return None;
        }
        let one_more = |lingering: usize| {
            (lingering < self.max_lingering).then(|| lingering.saturating_add(1))
        };
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        let before = self.lingering.fetch_update(set, fetch, one_more);
        before.is_ok().then(|| LingerPermit(self))
    }

    /// Starts a thread if none is idle. `worker` creates the thread's function.
    pub(super) fn ensure_idle<F>(&self, worker: impl FnOnce() -> F) -> io::Result<()>
    where
        F: FnOnce() + Send + 'static,
    {
        if self.idle.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        if self.total.load(Ordering::SeqCst) >= MAX_THREADS {
            return Err(io::Error::other(format!(
                "the limit is {MAX_THREADS} threads"
            )));
        }
        // Counted before it runs, so that other workers do not start one each.
        self.idle.fetch_add(1, Ordering::SeqCst);
        let before = self.total.fetch_add(1, Ordering::SeqCst);
        let started = Builder::new()
            .name("pr-helper".into())
            .stack_size(STACK_SIZE)
            .spawn(worker());
        self.spawn_failed.store(started.is_err(), Ordering::SeqCst);
        match started {
            Ok(_) => {
                trace!(pr_helper_thread_started(to_u64(before)));
                Ok(())
            }
            Err(error) => {
                self.idle.fetch_sub(1, Ordering::SeqCst);
                self.total.fetch_sub(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    /// Returns whether a thread is idle, or could be started. Logs if it could not.
    pub(super) fn has_idle<F>(&self, worker: impl FnOnce() -> F) -> bool
    where
        F: FnOnce() + Send + 'static,
    {
        let result = self.ensure_idle(worker);
        if let Err(error) = &result
            && self.spawn_warning.should_log()
        {
            log::error!(
                "cannot start a thread, commands are answered with BUSY: {error}; check the \
                 limits of processes and of memory"
            );
        }
        result.is_ok()
    }

    pub(super) fn mark_busy(&self) {
        self.idle.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn mark_idle(&self) {
        self.idle.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how long the calling worker waits before [`Self::retire_if_surplus`]; `None` if it
    /// is the only idle one.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        (self.idle.load(Ordering::SeqCst) > 1).then_some(IDLE_TIMEOUT)
    }

    /// Returns whether one thread is left, which is idle.
    pub(super) fn is_quiescent(&self) -> bool {
        self.total.load(Ordering::SeqCst) == 1 && self.idle.load(Ordering::SeqCst) == 1
    }

    /// Removes the calling worker, which is idle, if another one is idle too. Returns whether the
    /// worker has to end.
    pub(super) fn retire_if_surplus(&self) -> bool {
        let one_less = |idle: usize| (idle > 1).then(|| idle.saturating_sub(1));
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        let is_surplus = self.idle.fetch_update(set, fetch, one_less).is_ok();
        if is_surplus {
            let before = self.total.fetch_sub(1, Ordering::SeqCst);
            trace!(pr_helper_thread_ended(to_u64(before.saturating_sub(1))));
        }
        is_surplus
    }
}

fn to_u64(threads: usize) -> u64 {
    u64::try_from(threads).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_starts_only_if_none_is_idle() {
        let pool = ThreadPool::new();
        pool.ensure_idle(|| || {}).unwrap();
        pool.ensure_idle(|| -> fn() { panic!("a thread is idle already") })
            .unwrap();
        pool.mark_busy();
        let mut started = false;
        pool.ensure_idle(|| {
            started = true;
            || {}
        })
        .unwrap();
        assert!(started);
    }

    #[test]
    fn linger_permits_are_limited() {
        let mut pool = ThreadPool::new();
        pool.max_lingering = 2;
        let first = pool.try_linger();
        let second = pool.try_linger();
        assert!(first.is_some() && second.is_some());
        assert!(pool.try_linger().is_none());
        drop(first);
        assert!(pool.try_linger().is_some());
    }

    #[test]
    fn last_idle_thread_stays() {
        let pool = ThreadPool::new();
        pool.mark_idle();
        assert_eq!(pool.idle_timeout(), None);
        pool.mark_idle();
        assert_eq!(pool.idle_timeout(), Some(IDLE_TIMEOUT));
        assert!(pool.retire_if_surplus());
        assert!(!pool.retire_if_surplus());
    }
}
