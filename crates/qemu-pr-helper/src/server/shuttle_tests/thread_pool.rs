// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the thread pool alone: one event in every possible schedule, several in many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::panicking;

use shuttle::scheduler::DfsScheduler;

use super::sync::{SpawnFailure, fail_spawn};
use super::{explore, run};
use crate::server::thread_pool::ThreadPool;

/// A pool with workers that handle events. The scheduler does not switch threads at its own
/// counters.
#[derive(Debug)]
struct PoolHarness {
    pool: ThreadPool,
    /// Number of events to come.
    events: AtomicUsize,
    /// Number of threads that have not retired.
    threads: AtomicUsize,
    busy: AtomicUsize,
}

impl PoolHarness {
    /// Handles events as the server's workers do.
    fn worker_loop(self: &Arc<Self>) {
        while self.next_event() {
            self.pool.mark_busy();
            self.ensure_idle();
            self.busy.fetch_add(1, Relaxed);
            let (threads, busy) = (self.threads.load(Relaxed), self.busy.load(Relaxed));
            assert!(threads > busy, "all {threads} threads are busy");
            self.busy.fetch_sub(1, Relaxed);
            self.pool.mark_idle();
        }
        // A worker that must not retire would wait for ever, because there are no more events.
        if self.pool.retire_if_surplus() {
            self.threads.fetch_sub(1, Relaxed);
        }
    }

    fn next_event(&self) -> bool {
        let one_less = |events: usize| events.checked_sub(1);
        self.events.fetch_update(Relaxed, Relaxed, one_less).is_ok()
    }

    fn ensure_idle(self: &Arc<Self>) {
        let started = self.pool.ensure_idle(|| {
            let harness = Arc::clone(self);
            harness.threads.fetch_add(1, Relaxed);
            move || harness.worker_loop()
        });
        started.unwrap();
    }
}

/// Dropped with the last thread.
impl Drop for PoolHarness {
    fn drop(&mut self) {
        if !panicking() {
            assert_eq!(self.events.load(Relaxed), 0);
            assert_eq!(self.threads.load(Relaxed), 1, "surplus threads");
        }
    }
}

/// Starts a pool for this number of events.
fn start<const EVENTS: usize>() {
    fail_spawn(SpawnFailure::Never);
    let harness = Arc::new(PoolHarness {
        pool: ThreadPool::new(),
        events: AtomicUsize::new(EVENTS),
        threads: AtomicUsize::new(0),
        busy: AtomicUsize::new(0),
    });
    harness.ensure_idle();
}

#[test]
fn one_thread_is_idle_in_every_schedule() {
    // Two events have millions of schedules.
    let schedules = run(DfsScheduler::new(None, false), start::<1>);
    println!("{schedules} schedules");
}

#[test]
fn one_thread_is_idle() {
    explore(start::<6>);
}
