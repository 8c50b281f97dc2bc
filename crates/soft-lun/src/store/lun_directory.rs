// SPDX-License-Identifier: MIT OR Apache-2.0

//! A directory of soft LUNs, and the lookup of the port that a file descriptor refers to.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;

use super::directory::Directory;
use super::error::StoreError;
use super::lun::{Lun, OpenPort, PORTS};
use super::lun_config::Name;

/// A directory of soft LUNs, one in each subdirectory. Other entries are ignored.
#[derive(Debug)]
pub struct LunDirectory {
    dir: Directory,
}

impl LunDirectory {
    /// Opens a directory. The object keeps referring to it if it is moved or replaced.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Io`] if the path is not a directory or cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let dir = Directory::open(path)?;
        Ok(LunDirectory { dir })
    }

    /// Returns the names of the soft LUNs, sorted: those of all subdirectories with a `ports`
    /// directory.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Removed`] if the directory was removed, and [`StoreError::Io`] if it
    /// cannot be read.
    pub fn names(&self) -> Result<Vec<Name>, StoreError> {
        let stat = fstat(&self.dir).map_err(StoreError::io("stat", self.dir.path()))?;
        if stat.st_nlink == 0 {
            return Err(StoreError::Removed(self.dir.path().to_path_buf()));
        }
        let mut names = self.dir.names()?;
        names.retain(|name| {
            match self.dir.stat(&format!("{name}/{PORTS}")) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                // Keep a directory without search permission: its use returns the error.
                Err(error) => !matches!(error, Errno::NOENT | Errno::NOTDIR),
            }
        });
        names.sort_unstable();
        Ok(names)
    }

    /// Opens the soft LUN with this name.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Io`] if there is no directory of this name.
    pub fn lun(&self, name: &Name) -> Result<Lun, StoreError> {
        let dir = self.dir.open_dir(name.as_str())?;
        Ok(Lun { dir })
    }

    /// Finds the port that a file descriptor refers to, by device and inode. Returns `None` if the
    /// file is not a port of a soft LUN in this directory.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if the descriptor is not a port of the readable soft LUNs, and a soft
    /// LUN could not be read.
    pub fn find_port(&self, descriptor: BorrowedFd<'_>) -> Result<Option<OpenPort>, StoreError> {
        let io_error = |error| StoreError::io("stat", "the descriptor")(error);
        let stat = fstat(descriptor).map_err(io_error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        // Opening a file with O_PATH requires no permission on the file.
        let flags = fcntl_getfl(descriptor).map_err(io_error)?;
        if flags.contains(OFlags::PATH) {
            return Ok(None);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let mut last_error = None;
        for name in self.names()? {
            match self.lun(&name).and_then(|lun| lun.find_port(inode)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                // The soft LUN was removed after `names` had listed it.
                Err(error) if error.is_not_found() => {}
                Err(error) => last_error = Some(error),
            }
        }
        last_error.map_or(Ok(None), Err)
    }
}

impl AsFd for LunDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
