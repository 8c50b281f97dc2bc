// SPDX-License-Identifier: MIT OR Apache-2.0

//! The disk of an sg node: `/dev/sg0` and `/dev/sda` are the same logical unit.
//!
//! sysfs has a link for each node, named after its number, into the directory of the SCSI device:
//!
//! | link | target |
//! |---|---|
//! | `/sys/dev/char/21:0` | `../../devices/pci0000:00/…/2:0:0:0/scsi_generic/sg0` |
//! | `/sys/dev/block/8:0` | `../../devices/pci0000:00/…/2:0:0:0/block/sda` |
//!
//! Only links are read, never a file of the device itself or a directory, because the sandbox does
//! not allow opening them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::command::device::SCSI_DISK_MAJORS;

/// Number of entries at which the cache is cleared. There is one entry for each SCSI device with an
/// sg node, so few hosts have as many.
const MAX_ENTRIES: usize = 4096;

/// The major and minor number of a block device.
pub(crate) type BlockNumber = (u32, u32);

/// The disks of sg nodes.
#[derive(Debug)]
pub(crate) struct SgDisks {
    /// `/sys/dev`.
    root: PathBuf,
    /// Disks by the SCSI device's directory; `None` for a SCSI device that is not a disk.
    cache: Mutex<BTreeMap<String, Option<BlockNumber>>>,
}

impl Default for SgDisks {
    fn default() -> Self {
        Self::new(Path::new("/sys/dev"))
    }
}

impl SgDisks {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            cache: Mutex::default(),
        }
    }

    /// Returns the disk of the sg node with this number; `None` if it is not one of the first 256
    /// disks, or sysfs cannot be read.
    pub(crate) fn disk(&self, major: u32, minor: u32) -> Option<BlockNumber> {
        let link = self.link("char", &format!("{major}:{minor}"))?;
        let device = device_dir(&link, "/scsi_generic/")?;
        let cached = self.lock().get(device).copied();
        match cached {
            // A disk that was removed and added again can have another number.
            Some(Some(disk)) if !self.is_disk(disk, device) => {}
            Some(known) => return known,
            None => {}
        }
        let disk = self.find(device);
        let mut cache = self.lock();
        if cache.len() >= MAX_ENTRIES {
            cache.clear();
        }
        cache.insert(device.to_owned(), disk);
        disk
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<BlockNumber>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Searches the numbers of the first 256 SCSI disks for the disk in this directory.
    fn find(&self, device: &str) -> Option<BlockNumber> {
        SCSI_DISK_MAJORS
            .into_iter()
            .flat_map(|major| (0..256).step_by(16).map(move |minor| (major, minor)))
            .find(|number| self.is_disk(*number, device))
    }

    /// Returns whether the block device is the disk in this directory, and not a partition of it.
    fn is_disk(&self, (major, minor): BlockNumber, device: &str) -> bool {
        let link = self.link("block", &format!("{major}:{minor}"));
        link.is_some_and(|link| device_dir(&link, "/block/") == Some(device))
    }

    fn link(&self, kind: &str, number: &str) -> Option<String> {
        let link = fs::read_link(self.root.join(kind).join(number)).ok()?;
        link.into_os_string().into_string().ok()
    }
}

/// Returns the part of a link before `class`, which is the SCSI device's directory.
fn device_dir<'a>(link: &'a str, class: &str) -> Option<&'a str> {
    let (device, node) = link.rsplit_once(class)?;
    // A partition's directory is below its disk's.
    (!node.contains('/')).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, remove_file};
    use std::os::unix::fs::symlink;

    const DEVICE: &str = "../../devices/pci0000:00/0000:00:05.0/host2/target2:0:0/2:0:0";

    /// Creates a directory like `/sys/dev`, with links of these kinds and numbers to [`DEVICE`] and
    /// these suffixes.
    fn sysfs(links: &[(&str, &str, &str)]) -> (tempfile::TempDir, SgDisks) {
        let dir = tempfile::tempdir().unwrap();
        for kind in ["block", "char"] {
            create_dir(dir.path().join(kind)).unwrap();
        }
        for (kind, number, suffix) in links {
            let target = format!("{DEVICE}:{suffix}");
            symlink(target, dir.path().join(kind).join(number)).unwrap();
        }
        let disks = SgDisks::new(dir.path());
        (dir, disks)
    }

    #[test]
    fn sg_node_maps_to_its_disk_not_a_partition() {
        let (_dir, disks) = sysfs(&[
            ("char", "21:0", "0/scsi_generic/sg0"),
            ("char", "21:1", "10/scsi_generic/sg1"),
            ("char", "21:2", "2/scsi_generic/sg2"),
            ("block", "8:1", "0/block/sda/sda1"),
            ("block", "8:0", "0/block/sda"),
            ("block", "8:16", "10/block/sdb"),
        ]);
        for _ in 0..2 {
            assert_eq!(disks.disk(21, 0), Some((8, 0)));
            assert_eq!(disks.disk(21, 1), Some((8, 16)));
            assert_eq!(disks.disk(21, 2), None, "a device that is not a disk");
            assert_eq!(disks.disk(21, 3), None, "a missing node");
        }
    }

    #[test]
    fn disk_with_a_new_number_is_found() {
        let (dir, disks) = sysfs(&[
            ("char", "21:0", "0/scsi_generic/sg0"),
            ("block", "8:0", "0/block/sda"),
        ]);
        assert_eq!(disks.disk(21, 0), Some((8, 0)));
        remove_file(dir.path().join("block/8:0")).unwrap();
        let other = format!("{DEVICE}:1/block/sda");
        symlink(other, dir.path().join("block/8:0")).unwrap();
        let same = format!("{DEVICE}:0/block/sdc");
        symlink(same, dir.path().join("block/8:32")).unwrap();
        assert_eq!(disks.disk(21, 0), Some((8, 32)));
    }

    #[test]
    fn host_without_sysfs_has_no_disks() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(SgDisks::new(dir.path()).disk(21, 0), None);
    }
}
