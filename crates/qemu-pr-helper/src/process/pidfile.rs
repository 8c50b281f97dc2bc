// SPDX-License-Identifier: MIT OR Apache-2.0

//! The PID file: created and locked before the socket, written after it, removed at exit.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cli_messages::error::system_error;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;
use thiserror::Error;

use crate::process::created_file::{CreatedFile, DirLock, FileKind, Removal};
use crate::process::process_state::{ProcessState, process_state};

/// Maximum number of attempts to lock a file while other processes remove or unlock it.
const MAX_ATTEMPTS: u32 = 10;

/// Delay between these attempts.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Error of [`PidFile`].
#[derive(Debug, Error)]
pub(crate) enum PidFileError {
    #[error(
        "cannot create PID file '{0}': {cause}; check its directory, or choose another path with \
         -f",
        cause = system_error(.1)
    )]
    Create(PathBuf, io::Error),
    #[error("PID file '{0}' is a symbolic link: remove it, or choose another path with -f")]
    SymbolicLink(PathBuf),
    #[error("PID file '{0}' is not a regular file: choose another path with -f")]
    NotAFile(PathBuf),
    #[error("cannot lock PID file '{0}': another instance uses it; choose another path with -f")]
    InUse(PathBuf),
    #[error(
        "cannot lock PID file '{0}': {cause}; choose another path with -f",
        cause = system_error(.1)
    )]
    Lock(PathBuf, io::Error),
    #[error(
        "cannot write PID file '{0}': {cause}; choose another path with -f",
        cause = system_error(.1)
    )]
    Write(PathBuf, io::Error),
}

/// PID file that this process has created and locked.
#[derive(Debug)]
pub(crate) struct PidFile {
    created: CreatedFile,
    /// Open for as long as this process needs the lock: closing any descriptor of the file releases
    /// a record lock of the process. For the same reason nothing else opens the path.
    file: File,
}

impl PidFile {
    /// Creates, locks and empties `path`.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be created, or if another instance has locked it. The
    /// file of another instance is unchanged.
    pub(crate) fn create(path: &Path) -> Result<Self, PidFileError> {
        for _ in 0..MAX_ATTEMPTS {
            let file = open(path)?;
            // QEMU's helper locks with fcntl(2) too, so each instance sees the other's lock.
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, path).map_err(create_error(path))? => {
                    return Self::empty(file, path);
                }
                // An instance that exited has removed the file before it was locked here.
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => remove_stale(&file, path)?,
                Err(error) => return Err(PidFileError::Lock(path.into(), error.into())),
            }
            thread::sleep(RETRY_DELAY);
        }
        Err(PidFileError::InUse(path.into()))
    }

    fn empty(file: File, path: &Path) -> Result<Self, PidFileError> {
        let metadata = file.metadata().map_err(create_error(path))?;
        let created = CreatedFile::new(FileKind::PidFile, path, &metadata);
        match file.set_len(0) {
            Ok(()) => Ok(Self { created, file }),
            Err(error) => {
                created.remove();
                Err(PidFileError::Write(path.into(), error))
            }
        }
    }

    /// Writes the ID of this process and a newline.
    ///
    /// # Errors
    ///
    /// Returns an error if the file system is full, or another error of write(2).
    pub(crate) fn write(&mut self) -> Result<(), PidFileError> {
        writeln!(self.file, "{}", std::process::id())
            .map_err(|error| PidFileError::Write(self.created.path.clone(), error))
    }

    pub(crate) const fn created(&self) -> &CreatedFile {
        &self.created
    }

    /// Calls `remove` to remove the file. Empties the file if that fails, so that it does not name
    /// a process that has exited.
    pub(crate) fn remove_with(&self, remove: impl FnOnce(&CreatedFile) -> Removal) {
        if remove(&self.created) == Removal::Failed
            && let Err(error) = self.file.set_len(0)
        {
            let path = self.created.path.display();
            log::warn!(
                "PID file '{path}' not emptied: {error}; remove it, because it names a process \
                 that has exited"
            );
        }
    }
}

fn create_error(path: &Path) -> impl FnOnce(io::Error) -> PidFileError {
    |error| PidFileError::Create(path.into(), error)
}

/// Opens or creates the file. Does not follow a symbolic link: a user with write access to the
/// directory could otherwise have root overwrite any file.
fn open(path: &Path) -> Result<File, PidFileError> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(file.map_err(|error| match error {
        Errno::LOOP => PidFileError::SymbolicLink(path.into()),
        Errno::NXIO => PidFileError::NotAFile(path.into()),
        _ => PidFileError::Create(path.into(), error.into()),
    })?);
    match file.metadata().map_err(create_error(path))?.is_file() {
        true => Ok(file),
        false => Err(PidFileError::NotAFile(path.into())),
    }
}

/// Removes `file` from `path` if the process that holds its lock was killed but cannot exit.
///
/// Returns `Ok` also if the lock is free by now.
fn remove_stale(file: &File, path: &Path) -> Result<(), PidFileError> {
    // Without the lock, this could remove a file that another instance has just created.
    let _lock = DirLock::acquire_parent(path);
    let pid = lock_holder(file).map_err(|error| PidFileError::Lock(path.into(), error))?;
    let Some(pid) = pid else {
        return Ok(());
    };
    match process_state(Path::new("/proc"), pid) {
        ProcessState::Alive => Err(PidFileError::InUse(path.into())),
        // The kernel releases the lock when the process has exited.
        ProcessState::Gone => Ok(()),
        ProcessState::Exiting => {
            if is_at(file, path).map_err(create_error(path))? {
                log::warn!(
                    "PID file '{}' replaced: process {pid}, which has it locked, was killed and \
                     cannot exit",
                    path.display()
                );
                fs::remove_file(path).map_err(create_error(path))?;
            }
            Ok(())
        }
    }
}

/// Returns the process that has locked the file: -1 if the lock belongs to an open file
/// description, 0 if the process is in another PID namespace, and `None` if the file is not locked.
fn lock_holder(file: &File) -> io::Result<Option<i32>> {
    // rustix cannot represent -1.
    let mut lock = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).map_err(io::Error::other)?,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    let is_locked = i32::from(lock.l_type) != libc::F_UNLCK;
    Ok(is_locked.then_some(lock.l_pid))
}

/// Returns whether `file` is the file at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid_path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper.pid");
        (dir, path)
    }

    #[test]
    fn file_has_the_process_id_and_is_removed() {
        let (_dir, path) = pid_path();
        // A longer number, of which no digit may be left.
        fs::write(&path, "99999999999999\n").unwrap();
        let mut pid_file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        pid_file.write().unwrap();
        let content = fs::read_to_string(&path).unwrap();
        assert_eq!(content, format!("{}\n", std::process::id()));
        pid_file.remove_with(CreatedFile::remove);
        assert!(!path.exists());
    }

    #[test]
    fn replaced_file_stays() {
        let (_dir, path) = pid_path();
        let pid_file = PidFile::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        pid_file.remove_with(CreatedFile::remove);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn file_that_cannot_be_removed_is_emptied() {
        let (_dir, path) = pid_path();
        let pid_file = PidFile::create(&path).unwrap();
        pid_file.remove_with(|_| Removal::Failed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn error_names_the_path() {
        let error = PidFile::create(Path::new("/nonexistent/helper.pid")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("/nonexistent/helper.pid"), "{error}");
    }
}
