// SPDX-License-Identifier: MIT OR Apache-2.0

//! Timers, and the timeout of requests: a client that leaves a request, its answer to the greeting
//! or the read of a reply unfinished for too long is disconnected.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::sync::atomic::{AtomicU64, Ordering};
use super::sync::{Mutex, lock};

/// Maximum number of scans, each of which looks at every connection, during one request timeout. It
/// bounds the cost of scanning, however many clients are slow.
const SCANS_PER_TIMEOUT: u32 = 16;

/// A one-shot timer. Its descriptor becomes readable when it expires; there is no need to read it.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Sets the timer to expire once, after `delay`.
    pub(super) fn set(&self, delay: Duration) -> io::Result<()> {
        // A value of 0 would disarm the timer.
        let delay = delay.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: delay.try_into().map_err(io::Error::other)?,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Start time of a client's unfinished request, in milliseconds; [`Self::IDLE`] or
/// [`Self::EXPIRED`]. It is atomic, so that a scan can read it without the session's lock.
#[derive(Debug)]
pub(super) struct RequestTimer(AtomicU64);

impl RequestTimer {
    const IDLE: u64 = 0;
    const EXPIRED: u64 = u64::MAX;

    pub(super) fn idle() -> Self {
        Self(AtomicU64::new(Self::IDLE))
    }

    /// Starts the timer at `now`, unless it is running or expired.
    fn start(&self, now: u64) {
        self.change(Self::IDLE, now);
    }

    /// Stops the timer. Returns false if it has expired.
    pub(super) fn complete(&self) -> bool {
        match self.0.load(Ordering::SeqCst) {
            Self::IDLE => true,
            Self::EXPIRED => false,
            start => self.change(start, Self::IDLE),
        }
    }

    /// Returns the start, if the timer is running.
    fn started_at(&self) -> Option<u64> {
        let start = self.0.load(Ordering::SeqCst);
        (start != Self::IDLE && start != Self::EXPIRED).then_some(start)
    }

    /// Marks the timer that was started at `start` as expired. Returns false if it has stopped
    /// since.
    fn expire(&self, start: u64) -> bool {
        self.change(start, Self::EXPIRED)
    }

    pub(super) fn is_expired(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::EXPIRED
    }

    fn change(&self, from: u64, to: u64) -> bool {
        let changed = self
            .0
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        changed.is_ok()
    }
}

/// The scans for request timers that expire. The timer of the next scan is set when a request timer
/// starts, and by a scan only if it finds a timer that is running.
#[derive(Debug)]
pub(super) struct TimeoutScanner {
    timer: Timer,
    epoch: Instant,
    timeout: Duration,
    /// When the timer expires, if it is set.
    next_scan: Mutex<Option<u64>>,
}

impl TimeoutScanner {
    pub(super) fn new(timeout: Duration) -> io::Result<Self> {
        Ok(Self {
            timer: Timer::new()?,
            epoch: Instant::now(),
            timeout,
            next_scan: Mutex::new(None),
        })
    }

    /// Starts the timer of a partial request, of an unanswered greeting, or of an unread reply.
    /// Later bytes of the request do not extend its deadline.
    pub(super) fn start(&self, timer: &RequestTimer) {
        let now = self.now();
        timer.start(now);
        self.arm(now, self.timeout);
    }

    /// Marks the timers that have run for the timeout as expired, and returns their connections.
    /// Sets the timer for the next scan.
    pub(super) fn expire_overdue<'a, T: 'a>(
        &self,
        timers: impl Iterator<Item = (&'a RequestTimer, &'a Arc<T>)>,
    ) -> Vec<Arc<T>> {
        // Cleared first, so that a request timer that starts from now on sets the timer again.
        *lock(&self.next_scan) = None;
        let mut overdue = Vec::new();
        let mut earliest = RequestTimer::EXPIRED;
        let now = self.now();
        let limit = now.saturating_sub(milliseconds(self.timeout));
        for (timer, connection) in timers {
            match timer.started_at() {
                Some(start) if start > limit => earliest = earliest.min(start),
                Some(start) if timer.expire(start) => overdue.push(Arc::clone(connection)),
                _ => {}
            }
        }
        if earliest != RequestTimer::EXPIRED {
            let left = Duration::from_millis(earliest.saturating_sub(limit));
            self.arm(now, left.max(self.timeout / SCANS_PER_TIMEOUT));
        }
        overdue
    }

    /// Sets the timer to expire `delay` after `now`, unless it expires earlier.
    fn arm(&self, now: u64, delay: Duration) {
        let wanted = now.saturating_add(milliseconds(delay));
        let mut next_scan = lock(&self.next_scan);
        if next_scan.is_none_or(|next_scan| wanted < next_scan) {
            *next_scan = Some(wanted);
            if let Err(error) = self.timer.set(delay) {
                log::error!(
                    "cannot set the request timer: {error}; slow clients are not disconnected"
                );
            }
        }
    }

    /// Returns the time in milliseconds, from 1: [`RequestTimer`] has sentinels at both ends.
    fn now(&self) -> u64 {
        milliseconds(self.epoch.elapsed()).saturating_add(1)
    }
}

impl AsFd for TimeoutScanner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Converts to milliseconds. Saturates below the sentinel, even after adding 1.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 2)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn completed_timer_does_not_expire() {
        let timer = RequestTimer::idle();
        assert!(timer.complete());
        timer.start(5);
        timer.start(9);
        assert_eq!(timer.started_at(), Some(5));
        assert!(timer.complete());
        assert!(!timer.expire(5));
        assert_eq!(timer.started_at(), None);
    }

    #[test]
    fn expired_timer_stays_expired() {
        let timer = RequestTimer::idle();
        timer.start(5);
        assert!(timer.expire(5));
        timer.start(9);
        assert!(!timer.complete());
        assert!(timer.is_expired());
        assert_eq!(timer.started_at(), None);
    }
}
