//! Deadline of a command on a multipath map, and the check that the helper still waits for its
//! reply.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Point in time in milliseconds of `CLOCK_MONOTONIC`, which all processes of a host share.
///
/// A time span would start again in each process that reads the request, no matter how late that
/// process runs. A point in time stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Returns the deadline that is `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self(now().saturating_add(timeout))
    }

    /// Creates a deadline from milliseconds of `CLOCK_MONOTONIC`.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds of `CLOCK_MONOTONIC`.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the time until the deadline; zero once it has passed.
    pub fn time_left(self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now()))
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// Deadline of the request that a worker executes, and the connection to the helper.
#[derive(Clone, Debug)]
pub(super) struct PendingRequest {
    deadline: Deadline,
    helper: Arc<OwnedFd>,
}

impl PendingRequest {
    /// Creates a request with `deadline`. `helper` is the socket for its reply.
    pub(super) fn new(deadline: Deadline, helper: OwnedFd) -> Self {
        Self {
            deadline,
            helper: Arc::new(helper),
        }
    }

    /// Returns the deadline.
    pub(super) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Returns whether the deadline is ahead and the helper has not closed its end of the socket.
    ///
    /// A command must not be executed after the guest has been informed that it failed, so a worker
    /// checks this before each command that changes something.
    pub(super) fn is_pending(&self) -> bool {
        !self.deadline.time_left().is_zero() && !self.is_hung_up()
    }

    fn is_hung_up(&self) -> bool {
        let mut sockets = [PollFd::new(&*self.helper, PollFlags::empty())];
        let result = poll(&mut sockets, Some(&Timespec::default()));
        // poll(2) reports a hang-up even if no events are requested.
        result.is_err() || sockets.iter().any(|socket| !socket.revents().is_empty())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::channel;
    use super::*;

    /// Creates a request with a timeout of 60 s, and the helper's end of its socket.
    pub(crate) fn pending() -> (PendingRequest, OwnedFd) {
        let (helper, worker) = channel::pair().unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        (PendingRequest::new(deadline, worker), helper)
    }

    #[test]
    fn deadline_that_has_passed_leaves_no_time() {
        assert!(Deadline::after(Duration::from_secs(60)).time_left() > Duration::from_secs(50));
        assert!(Deadline::after(Duration::ZERO).time_left().is_zero());
        assert!(Deadline::from_millis(0).time_left().is_zero());
        let latest = Deadline::after(Duration::MAX);
        assert_eq!(latest.as_millis(), u64::MAX);
    }

    #[test]
    fn request_is_pending_until_its_deadline() {
        let (request, _helper) = pending();
        assert!(request.is_pending());
        let expired = PendingRequest {
            deadline: Deadline::from_millis(0),
            ..request
        };
        assert!(!expired.is_pending());
    }

    #[test]
    fn request_is_not_pending_after_the_helper_hangs_up() {
        let (request, helper) = pending();
        drop(helper);
        assert!(!request.is_pending());
    }
}
