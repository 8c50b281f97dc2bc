// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removes what a subcommand has created, also after a signal.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};

use linux_util::signals::SignalMask;
use nix::sys::signal::{SigSet, Signal};

/// Everything that a subcommand has created so far.
pub(crate) trait Remove: Send + 'static {
    /// Removes it. Further calls remove what is left.
    fn remove(&mut self);
}

/// The resources, which the thread that waits for signals shares.
#[derive(Debug)]
struct Shared<R> {
    resources: Mutex<R>,
    /// True after a signal.
    is_ending: AtomicBool,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, R> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the resources when it is dropped, or when a signal terminates the program.
pub(crate) struct CleanupGuard<R: Remove> {
    shared: Arc<Shared<R>>,
    signal_mask: SignalMask,
}

impl<R: Remove> CleanupGuard<R> {
    /// Blocks the signals and waits for them in a new thread. There must be no other thread yet,
    /// because it would receive the signals instead.
    pub(crate) fn install(resources: R) -> io::Result<Self> {
        let signal_mask = SignalMask::current()?;
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        let shared = Arc::new(Shared {
            resources: Mutex::new(resources),
            is_ending: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        Builder::new().spawn(move || {
            if let Ok(signal) = signals.wait() {
                of_thread.is_ending.store(true, Ordering::SeqCst);
                // The lock is held until exit, so that nothing new is created.
                let mut resources = of_thread.lock();
                resources.remove();
                // The exit status of a shell for a command that a signal terminated.
                process::exit(128 + signal as i32);
            }
        })?;
        Ok(CleanupGuard {
            shared,
            signal_mask,
        })
    }

    /// Returns the resources. They are not removed while the lock is held. After a signal, this
    /// function does not return, because a mutex does not prefer the thread that waits longest: the
    /// caller could take the lock again and again.
    pub(crate) fn resources(&self) -> MutexGuard<'_, R> {
        let resources = self.shared.lock();
        if !self.shared.is_ending.load(Ordering::SeqCst) {
            return resources;
        }
        drop(resources);
        loop {
            thread::park();
        }
    }

    /// Returns the original signal mask, for child processes.
    pub(crate) const fn signal_mask(&self) -> SignalMask {
        self.signal_mask
    }
}

impl<R: Remove> Drop for CleanupGuard<R> {
    fn drop(&mut self) {
        self.resources().remove();
    }
}
