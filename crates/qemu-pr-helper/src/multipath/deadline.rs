// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deadline of a command on a multipath map, the check that the helper still waits for its reply,
//! and the division of the time among paths.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::command::timestamp::Timestamp;

/// Point in time in milliseconds of `CLOCK_MONOTONIC`, which all processes of a host share.
///
/// A time span would start again in each process that reads the request, no matter how late that
/// process runs. A point in time stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u64);

impl Deadline {
    /// Returns the deadline that is `timeout` from now.
    pub(super) fn after(timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self(now().saturating_add(timeout))
    }

    /// Returns the time until the deadline; zero once it has passed.
    pub(super) fn time_left(self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now()))
    }
}

fn now() -> u64 {
    Timestamp::now().as_millis()
}

/// Deadline of the request that a worker executes, and the connection to the helper.
#[derive(Clone, Debug)]
pub(super) struct PendingRequest {
    deadline: Deadline,
    helper: Arc<OwnedFd>,
}

impl PendingRequest {
    /// Creates a request with `deadline`. `helper` is the socket for its reply.
    pub(super) const fn new(deadline: Deadline, helper: Arc<OwnedFd>) -> Self {
        Self { deadline, helper }
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

/// Division of the time of a request among paths.
#[derive(Clone, Debug)]
pub(super) struct TimeBudget {
    pub(super) pending: PendingRequest,
    share: Duration,
}

impl TimeBudget {
    /// Creates the budget of a request that may try `paths` paths, none of which may answer. One
    /// more share is left for the work after that.
    pub(super) fn new(pending: &PendingRequest, paths: usize) -> Self {
        let shares = u32::try_from(paths.saturating_add(1)).unwrap_or(u32::MAX);
        let time_left = pending.deadline.time_left();
        Self {
            pending: pending.clone(),
            share: time_left.checked_div(shares).unwrap_or(time_left),
        }
    }

    /// Returns the time limit for one reply: a path's share, or the time left if that is shorter.
    pub(super) fn path_timeout(&self) -> Duration {
        self.pending.deadline.time_left().min(self.share)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::process::seqpacket;

    /// Creates a request with a timeout of 60 s, and the helper's end of its socket.
    pub(crate) fn pending() -> (PendingRequest, OwnedFd) {
        let (helper, worker) = seqpacket::pair().unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        (PendingRequest::new(deadline, Arc::new(worker)), helper)
    }

    #[test]
    fn deadline_that_has_passed_leaves_no_time() {
        assert!(Deadline::after(Duration::from_secs(60)).time_left() > Duration::from_secs(50));
        assert!(Deadline::after(Duration::ZERO).time_left().is_zero());
        assert!(Deadline(0).time_left().is_zero());
        assert_eq!(Deadline::after(Duration::MAX), Deadline(u64::MAX));
    }

    #[test]
    fn request_is_pending_until_its_deadline() {
        let (request, _helper) = pending();
        assert!(request.is_pending());
        let expired = PendingRequest {
            deadline: Deadline(0),
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
