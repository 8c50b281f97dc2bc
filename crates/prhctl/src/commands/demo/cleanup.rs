// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removes the helper process and the temporary directory, also after a signal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use linux_util::signals::SignalMask;
use nix::sys::signal::{SigSet, Signal};

/// Number of attempts to remove the directory while another thread creates files in it.
const MAX_ATTEMPTS: usize = 50;
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// The process and the directory that the demonstration has created so far.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) helper: Option<Child>,
    pub(super) dir: Option<PathBuf>,
}

impl Resources {
    /// Stops the helper, and then removes the directory, which the helper uses.
    fn remove(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            // This fails if the helper has already exited.
            let _ = helper.kill();
            let _ = helper.wait();
        }
        if let Some(dir) = self.dir.take() {
            let _ = remove_dir(&dir);
        }
    }
}

/// Removes a directory and its contents.
pub(super) fn remove_dir(dir: &Path) -> io::Result<()> {
    for _ in 1..MAX_ATTEMPTS {
        match fs::remove_dir_all(dir) {
            // Another thread of this process has just created a file there.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                thread::sleep(RETRY_DELAY);
            }
            other => return other,
        }
    }
    fs::remove_dir_all(dir)
}

/// Removes the resources when it is dropped, or when a signal terminates the program.
pub(super) struct CleanupGuard {
    resources: Arc<Mutex<Resources>>,
    signal_mask: SignalMask,
}

impl CleanupGuard {
    /// Blocks the signals and waits for them in a new thread. There must be no other thread yet,
    /// because it would receive the signals instead.
    pub(super) fn install() -> io::Result<Self> {
        let signal_mask = SignalMask::current()?;
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        let resources: Arc<Mutex<Resources>> = Arc::default();
        let shared = Arc::clone(&resources);
        Builder::new().spawn(move || {
            if let Ok(signal) = signals.wait() {
                // The lock is held until exit, so that nothing new is created.
                let mut resources = lock(&shared);
                resources.remove();
                // The exit status of a shell for a command that a signal terminated.
                process::exit(128 + signal as i32);
            }
        })?;
        Ok(CleanupGuard {
            resources,
            signal_mask,
        })
    }

    /// Returns the resources. They are not removed while the lock is held.
    pub(super) fn resources(&self) -> MutexGuard<'_, Resources> {
        lock(&self.resources)
    }

    /// Returns the original signal mask, for child processes.
    pub(super) const fn signal_mask(&self) -> SignalMask {
        self.signal_mask
    }
}

fn lock(resources: &Mutex<Resources>) -> MutexGuard<'_, Resources> {
    resources.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        self.resources().remove();
    }
}
