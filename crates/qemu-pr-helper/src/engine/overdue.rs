//! When to look for requests that their clients have begun and do not finish.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use super::lock;
use super::table::{Seat, Table};
use super::timer::Timer;

/// A search, which looks at every session, comes at most so often while a request's time goes by. However many
/// clients dawdle, and however they take turns, searching is next to nothing.
const MOST_SEARCHES: u32 = 16;

/// The timer that says when to search. It is set only while somebody is at half of a request.
#[derive(Debug)]
pub(super) struct Overdue {
    timer: Timer,
    /// How long a request may take.
    patience: Duration,
    is_set: AtomicBool,
}

impl Overdue {
    /// Requests may take so long.
    pub(super) fn new(patience: Duration) -> io::Result<Self> {
        Ok(Self {
            timer: Timer::new()?,
            patience,
            is_set: AtomicBool::new(false),
        })
    }

    /// Somebody is at half of a request, since now at the earliest.
    pub(super) fn note(&self) {
        if !self.is_set.swap(true, Ordering::SeqCst) {
            self.set(self.patience);
        }
    }

    /// The timer has gone off: gives up who has been at a request for too long. The threads that are woken by that
    /// see to the rest. Gives the seats that were taken for it.
    pub(super) fn give_up(&self, table: &Mutex<Table>) -> Vec<Arc<Seat>> {
        // Who is noted from now on has the timer set again.
        self.is_set.store(false, Ordering::SeqCst);
        let overdue = self.search(&lock(table));
        for seat in &overdue {
            if let Some(mut session) = try_lock(&seat.session)
                && session.begun_for() >= Some(self.patience)
            {
                session.give_up();
            }
        }
        overdue
    }

    /// Who is to be given up. Sets the timer for those who are to be next.
    fn search(&self, table: &Table) -> Vec<Arc<Seat>> {
        let mut overdue = Vec::new();
        let mut longest = None;
        for seat in table.seats() {
            // Of a session that cannot be had somebody has more to say, and says it when it waits again.
            let begun_for = try_lock(&seat.session).and_then(|session| session.begun_for());
            if begun_for >= Some(self.patience) {
                overdue.push(Arc::clone(seat));
            } else {
                longest = longest.max(begun_for);
            }
        }
        if let Some(longest) = longest {
            self.is_set.store(true, Ordering::SeqCst);
            let left = self.patience.saturating_sub(longest);
            self.set(left.max(self.patience / MOST_SEARCHES));
        }
        overdue
    }

    fn set(&self, after: Duration) {
        if let Err(error) = self.timer.set(after) {
            log::error!("cannot set a timer, half-sent requests are kept: {error}");
        }
    }
}

impl AsFd for Overdue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// As [`lock`], but `None` if somebody else has it.
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
