//! Files of a soft LUN: read whole, replaced whole.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::error::StoreError;
use super::name::Name;

/// How a folder is opened, wherever it is.
pub(super) const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// No file has as many bytes as this, which is over a kilobyte for each port there can be.
const MOST: u64 = 1 << 21;

/// How long to wait for a lock. Who holds one is done in milliseconds, or stopped.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before one looks again whether it is free: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

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
    let read = file.take(MOST).read_to_end(&mut content);
    let length = read.map_err(StoreError::io("read", path))?;
    match u64::try_from(length).is_ok_and(|length| length < MOST) {
        true => Ok(Some(content)),
        false => Err(StoreError::TooLong(path.to_path_buf())),
    }
}

/// How much of a new file must be on the disk before one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// The content, so that whatever has the name is complete.
    Data,
    /// The content and the name: it is still there after a loss of power.
    DataAndDir,
}

/// Puts `content` in the place of `name` in a folder, whatever was there.
///
/// Whoever could read the old content can read the new one. The caller holds the folder's lock: the file
/// under its temporary name is left by one who was killed.
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
    durable: Sync,
) -> Result<(), StoreError> {
    let temporary = format!("{name}.new");
    // Removed and made anew: whatever has this name may lead elsewhere, or be somebody else's.
    match unlinkat(folder, &*temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(StoreError::io("replace", path)(error)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(folder, &*temporary, flags, PUBLIC);
    let mut file = File::from(file.map_err(StoreError::io("replace", path))?);
    if let Ok(old) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        let mode = Mode::from_raw_mode(old.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        fchmod(&file, mode).map_err(StoreError::io("replace", path))?;
    }
    file.write_all(content)
        .map_err(StoreError::io("write", path))?;
    file.sync_data().map_err(StoreError::io("write", path))?;
    renameat(folder, &*temporary, folder, name).map_err(StoreError::io("replace", path))?;
    match durable {
        Sync::Data => Ok(()),
        Sync::DataAndDir => fsync(folder).map_err(StoreError::io("bring to the disk", path)),
    }
}

/// Makes a port: an empty file, which owner and group may read and write unless the umask forbids it.
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the file.
pub(super) fn create_port(
    folder: BorrowedFd<'_>,
    name: &str,
    path: &Path,
) -> Result<(), StoreError> {
    create(folder, name, path, Mode::from_raw_mode(0o660))
}

/// Makes a lock, which is the owner's alone: whoever could open it could hold everybody up.
///
/// # Errors
///
/// [`StoreError::Io`] with `path`, which is that of the lock.
pub(super) fn create_lock(
    folder: BorrowedFd<'_>,
    name: &str,
    path: &Path,
) -> Result<(), StoreError> {
    create(folder, name, path, PRIVATE)
}

fn create(folder: BorrowedFd<'_>, name: &str, path: &Path, mode: Mode) -> Result<(), StoreError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(folder, name, flags, mode).map_err(StoreError::io("create", path))?;
    Ok(())
}

/// Waits for the lock `name` in a folder, for a while. It is held until the descriptor is closed, also by
/// the end of the process. It is never made here: a folder without it is being removed.
///
/// # Errors
///
/// [`StoreError::Busy`] or [`StoreError::Io`] with `path`, which is that of the lock.
pub(super) fn lock(folder: BorrowedFd<'_>, name: &str, path: &Path) -> Result<OwnedFd, StoreError> {
    let began = Instant::now();
    let [mut pause, longest] = PAUSES;
    loop {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(folder, name, flags, Mode::empty());
        let lock = lock.map_err(StoreError::io("open", path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            // Somebody may have put another file in its place, which others lock.
            Ok(()) if is_same_file(folder, name, &lock) => return Ok(lock),
            Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(StoreError::io("lock", path)(error)),
        }
        if began.elapsed() > PATIENCE {
            return Err(StoreError::Busy(path.to_path_buf()));
        }
        drop(lock);
        thread::sleep(pause);
        pause = longest.min(pause.saturating_mul(2));
    }
}

/// Whether `name` in a folder is still the file that is open.
fn is_same_file(folder: BorrowedFd<'_>, name: &str, file: &OwnedFd) -> bool {
    let named = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(named), Ok(open)) = (named, fstat(file)) else {
        return false;
    };
    (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)
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
