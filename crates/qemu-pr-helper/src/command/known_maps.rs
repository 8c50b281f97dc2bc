// SPDX-License-Identifier: MIT OR Apache-2.0

//! Multipath maps that commands were sent to. Their UUIDs in sysfs are kept open, because opening a
//! file takes several times as long as reading it again.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command::device::{self, Attribute, DeviceId, DeviceKind};

/// Maximum number of maps. For others, the file is opened with each command.
pub(crate) const MAX_KNOWN_MAPS: usize = 64;

/// UUIDs of the maps.
#[derive(Debug, Default)]
pub(crate) struct KnownMaps(Mutex<BTreeMap<DeviceId, Arc<Attribute>>>);

impl KnownMaps {
    /// Returns the kind of the device of `fd`, which has this number.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`device::kind`].
    pub(crate) fn kind(&self, fd: BorrowedFd<'_>, id: DeviceId) -> io::Result<DeviceKind> {
        let known = self.lock().get(&id).cloned();
        // The kernel does not allow changing the UUID, and reads nothing from the file of a map
        // that was removed.
        match known {
            Some(uuid) if uuid.read().is_ok() => return Ok(DeviceKind::Multipath),
            Some(_) => drop(self.lock().remove(&id)),
            None => {}
        }
        let kind = device::kind(fd, id)?;
        if kind == DeviceKind::Multipath
            && let DeviceId::Block(major, minor) = id
            && let Ok(Some(uuid)) = device::mapper_uuid(&device::sysfs_path(major, minor))
        {
            self.add(id, uuid);
        }
        Ok(kind)
    }

    fn add(&self, id: DeviceId, uuid: Attribute) {
        let mut maps = self.lock();
        if maps.len() < MAX_KNOWN_MAPS {
            maps.insert(id, Arc::new(uuid));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Arc<Attribute>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    #[test]
    fn map_that_was_removed_is_forgotten() {
        let maps = KnownMaps::default();
        let null = File::open("/dev/null").unwrap();
        let id = DeviceId::Character(1, 3);
        // The file of a device that was removed cannot be read; nor can a directory.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uuid");
        fs::write(&path, "mpath-1\n").unwrap();
        maps.add(id, Attribute::open(&path).unwrap());
        assert_eq!(maps.kind(null.as_fd(), id).unwrap(), DeviceKind::Multipath);
        maps.add(id, Attribute::open(dir.path()).unwrap());
        let kind = maps.kind(null.as_fd(), id).unwrap();
        assert_eq!(kind, DeviceKind::Passthrough);
        assert!(maps.lock().is_empty());
    }

    #[test]
    fn number_of_files_is_limited() {
        let maps = KnownMaps::default();
        let numbers = 0..u32::try_from(MAX_KNOWN_MAPS + 9).unwrap();
        for minor in numbers {
            let uuid = Attribute::open("/dev/null".as_ref()).unwrap();
            maps.add(DeviceId::Block(254, minor), uuid);
        }
        assert_eq!(maps.lock().len(), MAX_KNOWN_MAPS);
    }
}
