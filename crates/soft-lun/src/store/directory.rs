// SPDX-License-Identifier: MIT OR Apache-2.0

//! An open directory, and the operations on the files in it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat, fsync, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::error::StoreError;
use super::lun_config::Name;

/// Size limit of a file, in bytes: more than 1 KiB for each of the
/// [`MAX_PORTS`](super::LunConfig::MAX_PORTS). Every valid file is smaller.
const MAX_FILE_LEN: u64 = 1 << 21;

/// Timeout for a lock. A process holds it for milliseconds unless it is stopped.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest delay between two attempts to take a lock.
const LOCK_RETRY_DELAYS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// Mode of a replaced file that did not exist: all users can read it.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// The extent to which [`Directory::replace`] syncs a new file before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncMode {
    /// The content is synced: after a power loss, the name refers to a complete file, old or new.
    Data,
    /// Content and directory are synced: after a power loss, the name refers to the new file.
    DataAndDir,
}

/// An open directory. It remains the same one if it is moved or another one replaces it.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// The path that the directory was opened with, for error messages.
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(CWD, path, path.to_path_buf())
    }

    /// Creates a directory and opens it.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let created = fs::DirBuilder::new().mode(0o755).create(path);
        created.map_err(StoreError::io("create", path))?;
        Self::open(path)
    }

    /// Opens a subdirectory.
    pub(super) fn open_dir(&self, name: &str) -> Result<Self, StoreError> {
        Self::open_at(self.fd.as_fd(), Path::new(name), self.path.join(name))
    }

    fn open_at(parent: BorrowedFd<'_>, name: &Path, path: PathBuf) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Directory { fd, path }),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a function that adds operation and file to an error of a system call.
    fn error<E: Into<std::io::Error>>(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl FnOnce(E) -> StoreError {
        move |error| StoreError::io(action, self.path.join(name))(error)
    }

    /// Reads a file. Returns `None` if it does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        // NONBLOCK: opening a pipe of that name must not block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.error("open", name)(error)),
        };
        let mut content = Vec::new();
        let read = file.take(MAX_FILE_LEN).read_to_end(&mut content);
        let length = read.map_err(self.error("read", name))?;
        match u64::try_from(length).is_ok_and(|length| length < MAX_FILE_LEN) {
            true => Ok(Some(content)),
            false => Err(StoreError::FileTooLarge(self.path.join(name))),
        }
    }

    /// Replaces a file, which keeps its mode, or creates it.
    ///
    /// The caller holds the lock of the soft LUN. A temporary file that exists already therefore
    /// belongs to a process that was killed.
    ///
    /// On failure the old file is unchanged, unless only the sync of the directory failed.
    pub(super) fn replace(
        &self,
        name: &str,
        content: &[u8],
        sync: SyncMode,
    ) -> Result<(), StoreError> {
        let temporary = format!("{name}.new");
        // Never write to an existing file of this name: it may be a link or another user's file.
        match unlinkat(&self.fd, &*temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(self.error("replace", name)(error)),
        }
        let file = self.create_new(&temporary, FILE_MODE);
        let mut file = File::from(file.map_err(self.error("replace", name))?);
        if let Ok(old) = self.stat(name) {
            let mode = Mode::from_raw_mode(old.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
            fchmod(&file, mode).map_err(self.error("replace", name))?;
        }
        let written = file.write_all(content).and_then(|()| file.sync_data());
        written.map_err(self.error("write", name))?;
        renameat(&self.fd, &*temporary, &self.fd, name).map_err(self.error("replace", name))?;
        match sync {
            SyncMode::Data => Ok(()),
            SyncMode::DataAndDir => fsync(&self.fd).map_err(self.error("sync", name)),
        }
    }

    /// Creates an empty file. The mode is subject to the umask.
    pub(super) fn create_file(&self, name: &str, mode: Mode) -> Result<(), StoreError> {
        let created = self.create_new(name, mode);
        created.map(drop).map_err(self.error("create", name))
    }

    fn create_new(&self, name: &str, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&self.fd, name, flags, mode)
    }

    pub(super) fn stat(&self, name: &str) -> rustix::io::Result<Stat> {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Syncs the directory itself: the names of its files.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        fsync(&self.fd).map_err(StoreError::io("sync", &self.path))
    }

    /// Takes a lock, or fails with [`StoreError::Busy`] after a timeout.
    ///
    /// Closing the descriptor releases the lock, and so does the end of the process. The function
    /// never creates the file: a soft LUN without a lock is being removed.
    pub(super) fn lock(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let start = Instant::now();
        let [mut delay, max_delay] = LOCK_RETRY_DELAYS;
        loop {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let lock = openat(&self.fd, name, flags, Mode::empty());
            let lock = lock.map_err(self.error("open", name))?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                // If the file was replaced in the meantime, other processes lock the new one.
                Ok(()) if self.is_same_file(name, &lock) => return Ok(lock),
                Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(self.error("lock", name)(error)),
            }
            if start.elapsed() > LOCK_TIMEOUT {
                return Err(StoreError::Busy(self.path.join(name)));
            }
            drop(lock);
            thread::sleep(delay);
            delay = max_delay.min(delay.saturating_mul(2));
        }
    }

    /// Returns whether `name` refers to the open file.
    fn is_same_file(&self, name: &str, file: &OwnedFd) -> bool {
        let (Ok(named), Ok(open)) = (self.stat(name), fstat(file)) else {
            return false;
        };
        (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)
    }

    /// Returns the entries with a valid [`Name`]. Other entries do not belong to soft LUNs.
    pub(super) fn names(&self) -> Result<Vec<Name>, StoreError> {
        let read_error = || StoreError::io("read", &self.path);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(read_error())? {
            let entry = entry.map_err(read_error())?;
            let name = entry.file_name().to_str().ok();
            names.extend(name.and_then(|name| name.parse::<Name>().ok()));
        }
        Ok(names)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
