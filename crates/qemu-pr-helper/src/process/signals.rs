//! The signals that end the helper, as something to wait for.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The signals that end the helper.
#[derive(Debug)]
pub struct Signals(SignalFd);

/// Reason why [`Signals::wait`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A signal has come.
    Signal(Signal),
    /// The peer of the other descriptor has closed its end.
    HungUp,
    /// The time is up, or this process was stopped and goes on.
    Timeout,
}

impl Signals {
    /// Blocks them in this thread and those that it starts, so that they can be waited for; and with them the
    /// signal of a trace that may not get longer, which is no reason to end.
    ///
    /// # Errors
    ///
    /// They cannot be blocked, or there is no descriptor for them.
    pub fn block() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        signals.thread_block()?;
        SigSet::from(Signal::SIGXFSZ).thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&signals, flags)?))
    }

    /// Waits for a signal, or until the peer of `other` closes its end, but no longer than
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// poll(2) or the read of the signal fails.
    pub fn wait(&self, other: impl AsFd, timeout: Option<Duration>) -> io::Result<Wake> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut descriptors = [
            PollFd::new(&self.0, PollFlags::IN),
            // The kernel reports a hang-up whether or not it was asked for.
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
        let signal = number.and_then(|number| Signal::try_from(number).ok());
        Ok(match signal {
            Some(signal) => Wake::Signal(signal),
            None if is_hung_up => Wake::HungUp,
            None => Wake::Timeout,
        })
    }
}
