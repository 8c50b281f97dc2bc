//! When to look for clients that do not finish what they have begun, and what becomes of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use super::connections::{Seat, Table};
use super::request_timer::Begun;
use super::sync::{Mutex, lock};
use super::timer::Timer;

/// A search, which looks at every seat, comes at most so often while a request's time goes by. However many
/// clients dawdle, and however they take turns, searching is next to nothing.
const MOST_SEARCHES: u32 = 16;

/// The timer that says when to search. It is set when somebody begins something, and not again when a search finds
/// nobody at it.
#[derive(Debug)]
pub(super) struct Overdue {
    timer: Timer,
    start: Instant,
    /// How long a request may take.
    patience: Duration,
    /// When the timer goes off, if it is set.
    due: Mutex<Option<u64>>,
}

impl Overdue {
    /// Requests may take so long.
    pub(super) fn new(patience: Duration) -> io::Result<Self> {
        Ok(Self {
            timer: Timer::new()?,
            start: Instant::now(),
            patience,
            due: Mutex::new(None),
        })
    }

    /// A client waits with half of something. With every byte that comes alone the rest is due as it was.
    pub(super) fn note(&self, begun: &Begun) {
        let now = self.now();
        begun.note(now);
        self.set(now, self.patience);
    }

    /// The timer has gone off: gives up who has been at something for too long. The threads that are woken by
    /// that see to the rest. Gives the seats that were taken for it.
    pub(super) fn give_up(&self, table: &Mutex<Table>) -> Vec<Arc<Seat>> {
        // Who is noted from now on has the timer set again.
        *lock(&self.due) = None;
        let overdue = self.search(&lock(table));
        for seat in &overdue {
            // Whoever waits for the client is woken by this, as if it had left.
            if let Err(error) = shutdown(&*seat.socket, Shutdown::Both) {
                log::info!("a client is gone before it was given up: {error}");
            }
        }
        overdue
    }

    /// Marks who is to be given up. Sets the timer for those who are to be next.
    fn search(&self, table: &Table) -> Vec<Arc<Seat>> {
        let mut overdue = Vec::new();
        let mut earliest = None;
        let now = self.now();
        let limit = now.saturating_sub(milliseconds(self.patience));
        for seat in table.seats() {
            match seat.begun.since() {
                None => {}
                Some(since) if since > limit => {
                    earliest = Some(earliest.map_or(since, |earliest: u64| earliest.min(since)));
                }
                Some(since) => overdue.extend(seat.begun.give_up(since).then(|| Arc::clone(seat))),
            }
        }
        if let Some(earliest) = earliest {
            let left = Duration::from_millis(earliest.saturating_sub(limit));
            self.set(now, left.max(self.patience / MOST_SEARCHES));
        }
        overdue
    }

    /// Has the timer go off so long after `now`, unless it does so earlier.
    fn set(&self, now: u64, after: Duration) {
        let wanted = now.saturating_add(milliseconds(after));
        let mut due = lock(&self.due);
        if due.is_none_or(|due| wanted < due) {
            *due = Some(wanted);
            if let Err(error) = self.timer.set(after) {
                log::error!("cannot set a timer, half-sent requests are kept: {error}");
            }
        }
    }

    /// Never what stands for something else.
    fn now(&self) -> u64 {
        milliseconds(self.start.elapsed()).saturating_add(1)
    }
}

impl AsFd for Overdue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    // Of hundreds of millions of years nobody has to know.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 2)
}
