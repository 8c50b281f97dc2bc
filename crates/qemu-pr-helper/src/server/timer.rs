//! A timer that the threads wait for together with everything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const NEVER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A timer. When its time is over it becomes readable, which nobody has to do.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Goes off once, after so long.
    pub(super) fn set(&self, after: Duration) -> io::Result<()> {
        // At 0 it never would.
        let after = after.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: NEVER,
            it_value: after.try_into().map_err(io::Error::other)?,
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
