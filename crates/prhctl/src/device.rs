//! Opens the device that a command is about.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use pr_helper_protocol::Direction;
use rustix::fs::{Mode, OFlags, open};

use crate::error::Error;

/// An open device, and its name.
#[derive(Debug)]
pub(crate) struct Device {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Device {
    /// Opens what is at `path`: for reading if it is to be asked, for writing too if it is to be
    /// changed, because helpers refuse PERSISTENT RESERVE OUT through a read-only descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub(crate) fn open(path: &Path, direction: Direction) -> Result<Self, Error> {
        let access = match direction {
            Direction::In => OFlags::RDONLY,
            Direction::Out => OFlags::RDWR,
        };
        // Neither a pipe that nobody writes to nor a drive without a medium holds this up.
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Device {
                path: path.to_owned(),
                descriptor,
            }),
            Err(error) => Err(Error::Open {
                path: path.to_owned(),
                direction,
                source: error.into(),
            }),
        }
    }

    /// Its name on the command line.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether there is a device at `path` at all, and not a file or a directory.
pub(crate) fn is_special_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_block_device() || kind.is_char_device()
    })
}
