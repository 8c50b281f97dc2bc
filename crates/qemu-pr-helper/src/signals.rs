//! The signals that end the helper, as something to wait for.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The signals that end the helper.
#[derive(Debug)]
pub struct Signals(SignalFd);

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

    /// Waits for one of them; `None` if none comes within `patience`.
    ///
    /// # Errors
    ///
    /// They cannot be waited for.
    pub fn wait(&self, patience: Option<Duration>) -> io::Result<Option<Signal>> {
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match poll(
            &mut [PollFd::new(&self.0, PollFlags::IN)],
            patience.as_ref(),
        ) {
            // The second: this process was stopped, and goes on.
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let signal = self.0.read_signal()?;
        let number = signal.and_then(|signal| i32::try_from(signal.ssi_signo).ok());
        Ok(number.and_then(|number| Signal::try_from(number).ok()))
    }
}
