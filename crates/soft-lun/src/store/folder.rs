//! A folder of soft LUNs, and which port of which of them a descriptor is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fcntl_getfl, fstat, openat, statat};
use rustix::io::Errno;

use super::error::StoreError;
use super::file::{FOLDER, names_in};
use super::lun::{Lun, OpenPort, PORTS};
use super::name::Name;

/// A folder whose subfolders are soft LUNs. Whatever else is in it does not matter.
#[derive(Debug)]
pub struct LunDirectory {
    folder: OwnedFd,
    /// For errors.
    path: PathBuf,
}

impl LunDirectory {
    /// Opens a folder. It stays the same one wherever it is moved, and whatever takes its place.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: there is no such folder, or it may not be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match openat(CWD, path, FOLDER, Mode::empty()) {
            Ok(folder) => Ok(LunDirectory {
                folder,
                path: path.to_path_buf(),
            }),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    /// The names of its soft LUNs, sorted: those of all subfolders that have ports.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the folder cannot be read, or is no longer there.
    pub fn names(&self) -> Result<Vec<Name>, StoreError> {
        let stat = fstat(&self.folder).map_err(StoreError::io("look at", &self.path))?;
        if stat.st_nlink == 0 {
            return Err(StoreError::Removed(self.path.clone()));
        }
        let mut names = names_in(self.folder.as_fd(), &self.path)?;
        names.retain(|name| {
            let ports = format!("{name}/{PORTS}");
            match statat(&self.folder, ports, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                // If it may not be looked into, whoever uses it is told so.
                Err(error) => !matches!(error, Errno::NOENT | Errno::NOTDIR),
            }
        });
        names.sort_unstable();
        Ok(names)
    }

    /// One of its soft LUNs.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: there is none of this name.
    pub fn lun(&self, name: &Name) -> Result<Lun, StoreError> {
        let path = self.path.join(name.as_str());
        Lun::open_at(self.folder.as_fd(), Path::new(name.as_str()), path)
    }

    /// The port that a descriptor refers to, by device and inode; `None` if it is that of no soft LUN in
    /// here.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it may be one of those that cannot be read.
    pub fn port(&self, descriptor: BorrowedFd<'_>) -> Result<Option<OpenPort>, StoreError> {
        let unknown = |error| StoreError::io("look at", "the descriptor")(error);
        let wanted = fstat(descriptor).map_err(unknown)?;
        if FileType::from_raw_mode(wanted.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        // Anybody can have such a descriptor, whatever the file's mode is.
        if fcntl_getfl(descriptor)
            .map_err(unknown)?
            .contains(OFlags::PATH)
        {
            return Ok(None);
        }
        let wanted = (wanted.st_dev, wanted.st_ino);
        let mut unread = None;
        for name in self.names()? {
            match self.lun(&name).and_then(|lun| lun.port(wanted)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                // It has just been removed.
                Err(error) if error.is_missing() => {}
                Err(error) => unread = Some(error),
            }
        }
        unread.map_or(Ok(None), Err)
    }
}
impl AsFd for LunDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}
