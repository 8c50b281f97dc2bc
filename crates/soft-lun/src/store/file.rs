//! Files of a soft LUN: read whole, replaced whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FlockOperation, Mode, OFlags, flock, fsync, openat, renameat};
use rustix::io::{Errno, retry_on_intr};

use super::error::StoreError;
use super::name::Name;

/// How a folder is opened, wherever it is.
pub(super) const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Bytes of the longest file that is read: some thousand ports.
const LONGEST: u64 = 1 << 20;

/// Files that everybody may read, and the owner change.
const PUBLIC: Mode = Mode::from_raw_mode(0o644);
/// Files that are the owner's alone.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// The content of `name` in a folder; `None` if there is no such file.
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the file.
pub(super) fn read(
    folder: BorrowedFd<'_>,
    name: &str,
    path: &Path,
) -> Result<Option<Vec<u8>>, StoreError> {
    // A pipe in its place must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut content = Vec::new();
    file.take(LONGEST)
        .read_to_end(&mut content)
        .map_err(StoreError::io("read", path))?;
    Ok(Some(content))
}

/// How much of a new file must be on the disk before one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// The content, so that whatever has the name is complete.
    Content,
    /// The content and the name: it is still there after a loss of power.
    Name,
}

/// Puts `content` in the place of `name` in a folder, whatever was there.
///
/// The caller holds the folder's lock: the file under its temporary name is left by one who was killed.
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the file. Then the old content is still there, unless
/// the name could not be brought to the disk.
pub(super) fn replace(
    folder: BorrowedFd<'_>,
    name: &str,
    path: &Path,
    content: &[u8],
    durable: Durable,
) -> Result<(), StoreError> {
    let temporary = format!("{name}.new");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, &*temporary, flags, PUBLIC);
    let mut file = File::from(file.map_err(StoreError::io("replace", path))?);
    file.write_all(content)
        .map_err(StoreError::io("write", path))?;
    file.sync_data().map_err(StoreError::io("write", path))?;
    renameat(folder, &*temporary, folder, name).map_err(StoreError::io("replace", path))?;
    match durable {
        Durable::Content => Ok(()),
        Durable::Name => fsync(folder).map_err(StoreError::io("bring to the disk", path)),
    }
}

/// Makes an empty file, whose owner and group may write.
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the file.
pub(super) fn create_empty(
    folder: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
    path: &Path,
) -> Result<(), StoreError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o660);
    openat(folder, name.as_ref(), flags, mode).map_err(StoreError::io("create", path))?;
    Ok(())
}

/// Waits for the lock `name` in a folder. It is held until the descriptor is closed, also by the end of
/// the process.
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the lock.
pub(super) fn lock(folder: BorrowedFd<'_>, name: &str, path: &Path) -> Result<OwnedFd, StoreError> {
    // Private: whoever could open it could hold everybody up.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = openat(folder, name, flags, PRIVATE).map_err(StoreError::io("open", path))?;
    retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
        .map_err(StoreError::io("lock", path))?;
    Ok(lock)
}

/// Everything in a folder that has a [`Name`].
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the folder.
pub(super) fn names_in(folder: BorrowedFd<'_>, path: &Path) -> Result<Vec<Name>, StoreError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(StoreError::io("read", path))? {
        let entry = entry.map_err(StoreError::io("read", path))?;
        let name = entry.file_name().to_str().ok();
        // What is called otherwise is none of ours.
        names.extend(name.and_then(|name| name.parse::<Name>().ok()));
    }
    Ok(names)
}
