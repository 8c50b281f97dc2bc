//! The crew alone: with one event in every order there is, with more in many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::panicking;

use shuttle::scheduler::DfsScheduler;

use super::sync::thread::{Refused, refuse};
use super::{explore, run};
use crate::server::thread_pool::Crew;

/// What its threads do, seen from outside. The scheduler does not run others where this is counted.
#[derive(Debug)]
struct World {
    crew: Crew,
    /// What is to happen yet.
    events: AtomicUsize,
    /// Threads that have not left.
    present: AtomicUsize,
    busy: AtomicUsize,
}

impl World {
    /// As the engine's threads.
    fn follow(self: &Arc<Self>) {
        while self.has_event() {
            self.crew.called();
            self.ensure_waiting();
            self.busy.fetch_add(1, Relaxed);
            let (present, busy) = (self.present.load(Relaxed), self.busy.load(Relaxed));
            assert!(
                present > busy,
                "{present} threads are busy, and nobody waits"
            );
            self.busy.fetch_sub(1, Relaxed);
            self.crew.back_to_waiting();
        }
        // One that may not leave would wait for ever: there are no more events.
        if self.crew.leave_if_surplus() {
            self.present.fetch_sub(1, Relaxed);
        }
    }

    fn has_event(&self) -> bool {
        let before = self
            .events
            .fetch_update(Relaxed, Relaxed, |events| events.checked_sub(1));
        before.is_ok()
    }

    fn ensure_waiting(self: &Arc<Self>) {
        let started = self.crew.ensure_waiting(|| {
            let world = Arc::clone(self);
            world.present.fetch_add(1, Relaxed);
            move || world.follow()
        });
        started.unwrap();
    }
}

/// With its last thread.
impl Drop for World {
    fn drop(&mut self) {
        if !panicking() {
            assert_eq!(self.events.load(Relaxed), 0);
            assert_eq!(self.present.load(Relaxed), 1, "threads that stay");
        }
    }
}

/// A crew to which so much happens.
fn work<const EVENTS: usize>() {
    refuse(Refused::Never);
    let world = Arc::new(World {
        crew: Crew::new(),
        events: AtomicUsize::new(EVENTS),
        present: AtomicUsize::new(0),
        busy: AtomicUsize::new(0),
    });
    world.ensure_waiting();
}

#[test]
fn one_thread_waits_and_one_is_left_in_every_order() {
    // With two events there are millions.
    let orders = run(DfsScheduler::new(None, false), work::<1>);
    println!("{orders} orders");
}

#[test]
fn one_thread_waits_and_one_is_left() {
    explore(work::<6>);
}
