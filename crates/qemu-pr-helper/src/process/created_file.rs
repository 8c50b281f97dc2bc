// SPDX-License-Identifier: MIT OR Apache-2.0

//! Socket and PID file: files that the helper creates and that are removed when it exits.
//!
//! The broker removes them, because the helper, which reads what clients send, gives up the right
//! to remove files. Before the broker runs, the helper removes them itself.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use rustix::io::Errno;

/// Time limit for the lock on a directory in which another instance starts.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Delay between attempts to lock a directory.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(5);

/// Kind of a created file. `Display` is its name in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Socket that clients connect to.
    Socket,
    /// PID file.
    PidFile,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "socket",
            Self::PidFile => "PID file",
        })
    }
}

/// Result of an attempt to remove a created file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The file is removed.
    Removed,
    /// Another file, or none, is at the path.
    Replaced,
    /// The file cannot be removed.
    Failed,
}

/// File that the helper has created, by path, device and inode.
#[derive(Clone, Debug)]
pub struct CreatedFile {
    pub(crate) kind: FileKind,
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
}

impl CreatedFile {
    /// Creates the description of the file at `path` from its metadata.
    pub fn new(kind: FileKind, path: &Path, metadata: &Metadata) -> Self {
        Self {
            kind,
            path: path.into(),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Returns the directory of the file, which is the current one for a bare file name.
    pub(crate) fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
            Some(dir) => dir,
            None => Path::new("/"),
        }
    }

    /// Opens the directory of the file, so that a later removal does not follow the path again.
    ///
    /// # Errors
    ///
    /// Returns the error of openat(2), or `InvalidInput` if the path has no file name.
    pub fn open_dir(&self) -> io::Result<OpenedFile> {
        let name = self.path.file_name();
        let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // O_PATH, because the directory can be writable without being readable.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, self.dir(), flags, Mode::empty())?;
        Ok(OpenedFile {
            file: self.clone(),
            dir: dir.into(),
            name: name.into(),
        })
    }

    /// Removes the file, if it is still this file.
    pub(crate) fn remove(&self) -> Removal {
        match self.open_dir() {
            Ok(opened) => opened.remove(),
            Err(error) => self.log_failure(&error),
        }
    }

    fn log_failure(&self, error: &io::Error) -> Removal {
        log::warn!(
            "{} '{}' not removed: {error}; remove it, or the next start replaces it",
            self.kind,
            self.path.display()
        );
        Removal::Failed
    }
}

/// Created file with its directory, which stays open.
#[derive(Debug)]
pub struct OpenedFile {
    pub(crate) file: CreatedFile,
    pub(crate) dir: File,
    name: PathBuf,
}

impl OpenedFile {
    /// Removes the file, if it is still this file. A file that another process has put in its place
    /// stays.
    ///
    /// The lock on the directory keeps an instance that starts from creating its own socket between
    /// the check and the removal.
    pub(crate) fn remove(&self) -> Removal {
        let _lock = DirLock::acquire(&self.dir);
        let found = match statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) => None,
            Err(error) => return self.file.log_failure(&error.into()),
        };
        let ours = (self.file.device, self.file.inode);
        if found.is_none_or(|found| (found.st_dev, found.st_ino) != ours) {
            let path = self.file.path.display();
            let kind = self.file.kind;
            log::info!("{kind} '{path}' not removed: another file, or none, is at the path");
            return Removal::Replaced;
        }
        match unlinkat(&self.dir, &self.name, AtFlags::empty()) {
            Ok(()) => Removal::Removed,
            Err(error) => self.file.log_failure(&error.into()),
        }
    }
}

/// Lock on a directory, which instances hold while they create or remove a file in it. Released on
/// drop.
///
/// The lock only protects an instance from another one that starts at the same time. A directory
/// that cannot be opened, or that another program keeps locked, therefore does not prevent a start.
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

    fn acquire(dir: &File) -> Option<Self> {
        // The lock belongs to the open file description, so it needs one of its own.
        let dir = openat(dir, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(Self { _dir: dir.into() }),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(LOCK_RETRY_DELAY);
                }
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn created(path: &Path) -> CreatedFile {
        fs::write(path, "").unwrap();
        CreatedFile::new(FileKind::PidFile, path, &fs::metadata(path).unwrap())
    }

    #[test]
    fn created_file_is_removed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = created(&dir.path().join("file"));
        assert_eq!(file.remove(), Removal::Removed);
        assert!(!file.path.exists());
        assert_eq!(file.remove(), Removal::Replaced);
    }

    #[test]
    fn replaced_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = created(&dir.path().join("file"));
        fs::rename(&file.path, dir.path().join("moved")).unwrap();
        symlink(dir.path().join("moved"), &file.path).unwrap();
        assert_eq!(file.remove(), Removal::Replaced);
        assert!(file.path.exists());
    }

    #[test]
    fn removal_does_not_follow_a_replaced_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        let file = created(&first.join("file"));
        let opened = file.open_dir().unwrap();
        fs::hard_link(file.path, second.join("file")).unwrap();
        fs::rename(&first, dir.path().join("moved")).unwrap();
        symlink(&second, &first).unwrap();
        assert_eq!(opened.remove(), Removal::Removed);
        assert!(second.join("file").exists());
    }

    #[test]
    fn directory_of_a_path_is_its_parent() {
        let metadata = fs::metadata("/").unwrap();
        for (path, dir) in [
            ("/run/a/b", "/run/a"),
            ("/b", "/"),
            ("b", "."),
            ("a/b", "a"),
        ] {
            let file = CreatedFile::new(FileKind::Socket, Path::new(path), &metadata);
            assert_eq!(file.dir(), Path::new(dir));
        }
    }
}
