//! What can be wrong with a soft LUN's files. Each error names the file.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use super::description::LunConfigError;
use super::name::{Name, NameError};
use super::record::StateFileError;

/// Why a soft LUN cannot be used. `Display` says what failed on which file, the source says why.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The kernel refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done, to follow "cannot".
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be called that.
    #[error("{} cannot be the name of a soft LUN", path.display())]
    Name {
        /// Where it was to be.
        path: PathBuf,
        /// The rule.
        source: NameError,
    },
    /// Something is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The folder has no `lun.json`.
    #[error("{} is no soft LUN: it has no lun.json", .0.display())]
    NoLun(PathBuf),
    /// A file is longer than any of a soft LUN.
    #[error("{} is longer than any file of a soft LUN", .0.display())]
    TooLong(PathBuf),
    /// Others have held the lock for so long that one has given up.
    #[error("{} is locked by somebody who does not let go of it", .0.display())]
    Busy(PathBuf),
    /// The folder is no longer anywhere.
    #[error("{} was removed, or replaced by another folder, while in use", .0.display())]
    Removed(PathBuf),
    /// A file is not what such a file looks like.
    #[error("{} is corrupt, or not of a soft LUN of this version", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        source: serde_json::Error,
    },
    /// There can be no such soft LUN.
    #[error("{}: there can be no such soft LUN", path.display())]
    Description {
        /// `lun.json`, or the folder of one that was to be made.
        path: PathBuf,
        /// Why.
        source: LunConfigError,
    },
    /// The state is none of this soft LUN.
    #[error("{} is not the state of this soft LUN", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StateFileError,
    },
    /// A command came through a port that there is not.
    #[error("soft LUN {} has no port {port}", path.display())]
    NoPort {
        /// The soft LUN's folder.
        path: PathBuf,
        /// The port's name.
        port: Name,
    },
}

impl StoreError {
    /// Whether it may go by itself: a lock that others hold, descriptors or memory that they need.
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

    /// Whether something is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// What turns an error of the kernel into one that says what was to be done, with which file.
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
