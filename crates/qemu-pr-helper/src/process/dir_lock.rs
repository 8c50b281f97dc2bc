//! The lock on a directory that instances of this program take while they create or remove a file.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

/// Time to wait for another instance that starts in the same directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Lock on a directory, released on drop.
///
/// Without the lock, a start is only less safe against another start at the same moment. So a
/// directory that cannot be opened, or that another program keeps locked, does not prevent a start.
#[derive(Debug)]
pub(crate) struct DirLock {
    _dir: File,
}

impl DirLock {
    /// Locks the directory that contains `path`. Returns `None` after [`LOCK_TIMEOUT`], or if the
    /// directory cannot be opened.
    pub(crate) fn acquire_parent(path: &Path) -> Option<Self> {
        Self::acquire(&File::open(path.parent()?).ok()?)
    }

    /// Locks `dir`. Returns `None` after [`LOCK_TIMEOUT`].
    pub(crate) fn acquire(dir: &File) -> Option<Self> {
        // The lock belongs to the open file description, so the directory is opened again for it.
        let dir = openat(dir, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(Self { _dir: dir.into() }),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return None,
            }
        }
    }
}
