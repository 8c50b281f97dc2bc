//! The PID file: written once, locked while the process lives, removed at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use thiserror::Error;

/// Why there is no PID file.
#[derive(Debug, Error)]
pub enum PidFileError {
    /// It cannot be created or opened.
    #[error("cannot create PID file '{path}'", path = .0.display())]
    Create(PathBuf, #[source] io::Error),
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

/// A PID file that this process holds. It is removed on drop; where the directory does not let this
/// user do so, it is emptied, so that no stale number is left behind.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
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
        let failed = |error| PidFileError::Create(path.into(), error);
        let file = loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(failed)?;
            // QEMU's helper locks with fcntl too, so each sees the other's lock.
            fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(
                |error| match error {
                    Errno::AGAIN | Errno::ACCESS => PidFileError::InUse(path.into()),
                    other => PidFileError::Lock(path.into(), other.into()),
                },
            )?;
            // An instance that ended may have removed the file between the two calls above.
            if is_at(&file, path).map_err(failed)? {
                break file;
            }
        };
        let mut pid_file = Self {
            path: path.into(),
            file,
        };
        pid_file
            .write()
            .map_err(|error| PidFileError::Write(path.into(), error))?;
        Ok(pid_file)
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if !is_at(&self.file, &self.path).unwrap_or(false) {
            return log::info!("PID file '{}' is no longer ours", self.path.display());
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::info!(
                "cannot remove PID file '{}': {error}; emptying it",
                self.path.display()
            );
            if let Err(error) = self.file.set_len(0) {
                log::warn!("cannot empty PID file '{}': {error}", self.path.display());
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
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
