// SPDX-License-Identifier: MIT OR Apache-2.0

//! The signals that end the helper, received through a descriptor (signalfd(2)).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// SIGTERM, SIGINT and SIGHUP, each of which ends the helper.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

/// Reason why [`Signals::wait`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Signal(Signal),
    /// The peer of the other descriptor has closed its end.
    HungUp,
    /// The time has expired, or this process was stopped and continues.
    Timeout,
}

impl Signals {
    /// Blocks the signals in this thread and the threads that it starts. Also blocks SIGXFSZ, so
    /// that a trace file at its size limit does not end the helper.
    pub(crate) fn block() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        signals.thread_block()?;
        SigSet::from(Signal::SIGXFSZ).thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&signals, flags)?))
    }

    /// Waits until a signal arrives, the peer of `other` closes its end, or `timeout` expires.
    /// `None` is no timeout.
    pub(crate) fn wait(&self, other: impl AsFd, timeout: Option<Duration>) -> io::Result<Wake> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut descriptors = [
            PollFd::new(&self.0, PollFlags::IN),
            // The kernel always reports a hang-up.
            PollFd::new(&other, PollFlags::empty()),
        ];
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Wake::Timeout),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let [_, is_hung_up] = descriptors.map(|ready| !ready.revents().is_empty());
        let signal = self.0.read_signal()?;
        let number = signal.and_then(|signal| i32::try_from(signal.ssi_signo).ok());
        Ok(
            match number.and_then(|number| Signal::try_from(number).ok()) {
                Some(signal) => Wake::Signal(signal),
                None if is_hung_up => Wake::HungUp,
                None => Wake::Timeout,
            },
        )
    }
}
