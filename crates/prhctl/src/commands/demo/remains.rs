//! What a demonstration leaves if it is not removed: a process and a folder. They go whatever happens, also
//! with a signal in the middle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use linux_util::signals::SignalMask;
use nix::sys::signal::{SigSet, Signal};

/// How often the folder is tried to be removed while somebody is still writing in it, and the pause
/// between two times.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// What there is now.
#[derive(Debug, Default)]
pub(super) struct Things {
    /// The helper's process.
    pub(super) helper: Option<Child>,
    /// The folder.
    pub(super) folder: Option<PathBuf>,
}

impl Things {
    /// Removes them: the helper before the folder that it works in.
    fn remove(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            // It may have ended, and then this does nothing.
            let _ = helper.kill();
            let _ = helper.wait();
        }
        if let Some(folder) = self.folder.take() {
            let _ = remove_folder(&folder);
        }
    }
}

/// Removes a folder with all that is in it.
///
/// # Errors
///
/// What is in the way.
pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    for _ in 1..TRIES {
        match fs::remove_dir_all(folder) {
            // This program may be making a file at this moment, and soon no more.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => thread::sleep(PAUSE),
            other => return other,
        }
    }
    fs::remove_dir_all(folder)
}

/// Things that are removed with the value, or when a signal ends the program.
pub(super) struct Remains {
    things: Arc<Mutex<Things>>,
    /// For programs that are started: the signals that are waited for here must end those.
    mask: SignalMask,
}

impl Remains {
    /// Begins to wait for signals. There must be no other thread yet, which would get them instead.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn watched() -> io::Result<Self> {
        let mask = SignalMask::current()?;
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        let things: Arc<Mutex<Things>> = Arc::default();
        let watched = Arc::clone(&things);
        Builder::new().spawn(move || {
            if let Ok(signal) = signals.wait() {
                // Kept locked: nothing new is made any more.
                let mut things = lock(&watched);
                things.remove();
                // As a shell has it of a program that a signal has ended.
                process::exit(128 + signal as i32);
            }
        })?;
        Ok(Remains { things, mask })
    }

    /// The things, which are not removed meanwhile.
    pub(super) fn things(&self) -> MutexGuard<'_, Things> {
        lock(&self.things)
    }

    /// The mask for programs that are started.
    pub(super) const fn mask(&self) -> SignalMask {
        self.mask
    }
}

fn lock(things: &Mutex<Things>) -> MutexGuard<'_, Things> {
    things.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.things().remove();
    }
}
