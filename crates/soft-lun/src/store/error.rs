// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors of the store. Each error names the file.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use super::lun_config::{LunConfigError, Name, NameError};
use super::state_file::StateFileError;

/// An error in the use of a soft LUN. `Display` names the operation and the file; the source is the
/// cause.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The operation that failed, as a verb that follows "cannot".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The name of a new soft LUN is invalid.
    #[error("{} is not a valid soft LUN name", path.display())]
    Name {
        /// The path of the new soft LUN.
        path: PathBuf,
        /// The rule for names.
        source: NameError,
    },
    /// The path of a new soft LUN exists.
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    /// The directory has no `lun.json`.
    #[error("{} is not a soft LUN: it has no lun.json", .0.display())]
    NotALun(PathBuf),
    /// A file is larger than any file of a soft LUN.
    #[error("{} is too large for a file of a soft LUN", .0.display())]
    FileTooLarge(PathBuf),
    /// The lock was not released within the timeout (5 s).
    #[error("timed out waiting for {}: it is locked by another process", .0.display())]
    Busy(PathBuf),
    /// The directory has been removed.
    #[error("{} was removed or replaced while in use", .0.display())]
    Removed(PathBuf),
    /// A file has the wrong format.
    #[error("{} is corrupt or has an unsupported version", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The position, and what was expected there.
        source: serde_json::Error,
    },
    /// The configuration is invalid.
    #[error("{}: invalid soft LUN configuration", path.display())]
    Config {
        /// `lun.json`, or the directory of a new soft LUN.
        path: PathBuf,
        /// The cause.
        source: LunConfigError,
    },
    /// The state is not a valid state of this soft LUN.
    #[error("{} is not a valid state of this soft LUN", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: StateFileError,
    },
    /// The soft LUN does not have the port that a command was sent through.
    #[error("soft LUN {} has no port {port}", path.display())]
    UnknownPort {
        /// The directory of the soft LUN.
        path: PathBuf,
        /// The name of the port.
        port: Name,
    },
}

impl StoreError {
    /// Returns whether a retry can succeed: another process held the lock, or the system lacked
    /// file descriptors or memory.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Busy(_) => true,
            StoreError::Io { source, .. } => matches!(
                Errno::from_io_error(source),
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
            ),
            _ => false,
        }
    }

    /// Returns whether the error is that a file does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Returns a function that adds operation and file to an error of a system call.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| StoreError::Io {
            action,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }
}
