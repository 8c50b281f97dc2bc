//! The PID file: written once, locked while the process lives, removed at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;
use thiserror::Error;

use super::dir_lock::DirLock;
use crate::process::created_file::{CreatedFile, Kind, Removal};
use crate::process::exiting::{Holder, holder};

/// How often a file is opened and locked that another process removes or unlocks meanwhile, and the
/// pause before the next time.
const MAX_ATTEMPTS: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Why there is no PID file.
#[derive(Debug, Error)]
pub enum PidFileError {
    /// It cannot be created or opened.
    #[error("cannot create PID file '{path}'", path = .0.display())]
    Create(PathBuf, #[source] io::Error),
    /// The path is a symbolic link, which could lead to any file.
    #[error(
        "PID file '{path}' is a symbolic link: remove it, or choose another path with -f",
        path = .0.display()
    )]
    SymbolicLink(PathBuf),
    /// The path is a pipe, a device or the like.
    #[error(
        "PID file '{path}' is not a regular file: choose another path with -f",
        path = .0.display()
    )]
    NotAFile(PathBuf),
    /// Another process holds it.
    #[error("cannot lock PID file '{path}': another instance uses it", path = .0.display())]
    InUse(PathBuf),
    /// The file system cannot lock it.
    #[error("cannot lock PID file '{path}'", path = .0.display())]
    Lock(PathBuf, #[source] io::Error),
    /// It cannot be written.
    #[error("cannot write PID file '{path}'", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// PID file that this process holds. Removed on drop, unless the broker is to remove it. A file
/// that cannot be removed is emptied, so that no stale number is left behind.
#[derive(Debug)]
pub struct PidFile {
    created: CreatedFile,
    is_handed_over: bool,
    // A record lock belongs to the process and the file: it is gone when any descriptor of the file
    // is closed. So this one stays open, and nothing else opens the path.
    file: File,
}

impl PidFile {
    /// Creates and locks `path`, and writes this process's id and a newline.
    ///
    /// # Errors
    ///
    /// [`PidFileError`]; the file of another instance is untouched.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        for _ in 0..MAX_ATTEMPTS {
            let file = open(path)?;
            // QEMU's helper locks with fcntl too, so each sees the other's lock.
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                // An instance that ended may have removed the file between the two calls above.
                Ok(()) if !is_at(&file, path).map_err(create_error(path))? => {}
                Ok(()) => {
                    let metadata = file.metadata().map_err(create_error(path))?;
                    let mut pid_file = Self {
                        created: CreatedFile::new(Kind::PidFile, path, &metadata),
                        is_handed_over: false,
                        file,
                    };
                    return match pid_file.write() {
                        Ok(()) => Ok(pid_file),
                        Err(error) => Err(PidFileError::Write(path.into(), error)),
                    };
                }
                Err(Errno::AGAIN | Errno::ACCESS) => make_way(&file, path)?,
                Err(error) => return Err(PidFileError::Lock(path.into(), error.into())),
            }
            thread::sleep(RETRY_DELAY);
        }
        Err(PidFileError::InUse(path.into()))
    }

    /// Returns the file.
    #[must_use]
    pub const fn created(&self) -> &CreatedFile {
        &self.created
    }

    /// Leaves the removal to the broker.
    pub const fn hand_over(&mut self) {
        self.is_handed_over = true;
    }

    /// Empties the file through the descriptor that this process holds.
    pub fn empty(&self) {
        if let Err(error) = self.file.set_len(0) {
            let path = self.created.path().display();
            log::warn!("PID file '{path}' not emptied: {error}; it names a process that has ended");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if !self.is_handed_over && self.created.remove() == Removal::Failed {
            self.empty();
        }
    }
}

fn create_error(path: &Path) -> impl FnOnce(io::Error) -> PidFileError {
    |error| PidFileError::Create(path.into(), error)
}

/// Opens or creates the file. Root must not be led to another one by a link in a directory of others.
fn open(path: &Path) -> Result<File, PidFileError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => PidFileError::SymbolicLink(path.into()),
            Some(libc::ENXIO) => PidFileError::NotAFile(path.into()),
            _ => PidFileError::Create(path.into(), error),
        })?;
    match file.metadata().map_err(create_error(path))?.is_file() {
        true => Ok(file),
        false => Err(PidFileError::NotAFile(path.into())),
    }
}

/// Removes `file` from `path` if the process that has locked it was killed and cannot end.
///
/// Returns also if the lock is free by now.
fn make_way(file: &File, path: &Path) -> Result<(), PidFileError> {
    // The lock of the directory, so that this removes no file that another start has just made.
    let _lock = DirLock::acquire_parent(path);
    let in_use = || PidFileError::InUse(path.into());
    let pid = lock_holder(file).map_err(|error| PidFileError::Lock(path.into(), error))?;
    let Some(pid) = pid else {
        return Ok(());
    };
    match holder(Path::new("/proc"), pid) {
        Holder::Alive => Err(in_use()),
        // The lock goes with the process.
        Holder::Gone => Ok(()),
        Holder::Exiting => {
            if is_at(file, path).map_err(create_error(path))? {
                let path_text = path.display();
                log::warn!(
                    "PID file '{path_text}' replaced: process {pid}, which has it locked, was killed \
                     and cannot end"
                );
                fs::remove_file(path).map_err(create_error(path))?;
            }
            Ok(())
        }
    }
}

/// Returns the process that has locked the file; -1 if the lock belongs to an open file, 0 if the process
/// is in another PID namespace, and `None` if the file is not locked.
fn lock_holder(file: &File) -> io::Result<Option<i32>> {
    // Not with rustix, to whose type -1 is no value.
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

    #[test]
    fn holds_the_process_id_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper.pid");
        let pid_file = PidFile::create(&path).unwrap();
        let content = fs::read_to_string(&path).unwrap();
        assert_eq!(content, format!("{}\n", std::process::id()));
        drop(pid_file);
        assert!(!path.exists());
    }

    #[test]
    fn a_longer_stale_number_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper.pid");
        fs::write(&path, "99999999999999\n").unwrap();
        let _pid_file = PidFile::create(&path).unwrap();
        let content = fs::read_to_string(&path).unwrap();
        assert_eq!(content, format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_file_of_somebody_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper.pid");
        let pid_file = PidFile::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(pid_file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = PidFile::create(Path::new("/nonexistent/helper.pid")).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/helper.pid"),
            "{error}"
        );
    }
}
