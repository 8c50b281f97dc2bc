// SPDX-License-Identifier: MIT OR Apache-2.0

//! The processes of this host that have a disk open.
//!
//! A virtual machine can live without a connection to a helper: QEMU connects again only when its
//! guest sends the next command. It has its disk open all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use linux_util::procfs::is_gone;

use crate::block_device::BlockDevice;
use crate::console::escape_control;

/// Names of programs that open disks of others: helpers, multipathd, and udevd with its workers.
const OTHER_PROGRAMS: [&str; 4] = [
    "qemu-pr-helper",
    "multipathd",
    "systemd-udevd",
    "(udev-worker)",
];

/// A process that has the disk open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskUser {
    pub(crate) pid: i32,
    /// Name of the program.
    pub(super) name: String,
}

impl fmt::Display for DiskUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", escape_control(&self.name), self.pid)
    }
}

/// The processes that have a disk open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUsers {
    pub(crate) users: Vec<DiskUser>,
    /// False if the open files of some processes are not visible.
    pub(crate) is_complete: bool,
}

/// Identity of a disk.
enum Identity {
    /// WWN of the logical unit.
    Wwn(String),
    /// Device and inode of the file.
    File(u64, u64),
}

impl DiskUsers {
    /// Returns the processes that have the disk at `path` open, over any of its nodes. `device` is
    /// the block device, if it is one.
    pub(crate) fn of(path: &Path, device: Option<&BlockDevice>) -> Self {
        let wwn = device.and_then(BlockDevice::wwn);
        let file = || fs::metadata(path).map(|file| Identity::File(file.dev(), file.ino()));
        match wwn.map_or_else(file, |wwn| Ok(Identity::Wwn(wwn))) {
            Ok(disk) => Self::search(Path::new("/proc"), &disk),
            Err(_) => Self::default(),
        }
    }

    fn search(proc: &Path, disk: &Identity) -> Self {
        let mut found = DiskUsers {
            users: Vec::new(),
            is_complete: true,
        };
        let mut known = BTreeMap::new();
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        for entry in entries {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let name = name.trim_end();
            if u32::try_from(pid) == Ok(std::process::id()) || OTHER_PROGRAMS.contains(&name) {
                continue;
            }
            match has_open(&entry.path(), disk, &mut known) {
                Ok(true) => found.users.push(DiskUser {
                    pid,
                    name: name.to_owned(),
                }),
                Ok(false) => {}
                Err(error) => found.is_complete &= is_gone(&error),
            }
        }
        found
    }
}

/// Returns whether a process has the disk open. `known` has the devices that were examined.
fn has_open(
    process: &Path,
    disk: &Identity,
    known: &mut BTreeMap<(bool, u64), bool>,
) -> io::Result<bool> {
    for file in fs::read_dir(process.join("fd"))? {
        // The file may have been closed meanwhile.
        let Some((path, file)) = file.ok().and_then(|file| {
            let path = file.path();
            Some((fs::metadata(&path).ok()?, path)).map(|(metadata, path)| (path, metadata))
        }) else {
            continue;
        };
        let kind = file.file_type();
        let is_disk = match disk {
            Identity::File(device, inode) => (file.dev(), file.ino()) == (*device, *inode),
            Identity::Wwn(wwn) if kind.is_block_device() || kind.is_char_device() => *known
                .entry((kind.is_block_device(), file.rdev()))
                .or_insert_with(|| is_node_of(&path, wwn)),
            Identity::Wwn(_) => false,
        };
        if is_disk {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a device node leads to the logical unit with this WWN.
fn is_node_of(path: &Path, wwn: &str) -> bool {
    BlockDevice::from_path(path)
        .or_else(|| BlockDevice::of_generic_node(path))
        .is_some_and(|device| device.wwn().as_deref() == Some(wwn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn file_is_found_in_other_processes() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::write(&disk, "").unwrap();
        let proc = dir.path().join("proc");
        for (pid, name, open) in [
            (10, "qemu-system-x86", &disk),
            (11, "qemu-pr-helper", &disk),
            (12, "multipathd", &disk),
            (13, "sleep", &proc),
        ] {
            let process = proc.join(pid.to_string());
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            symlink(open, process.join("fd/3")).unwrap();
        }
        let metadata = fs::metadata(&disk).unwrap();
        let identity = Identity::File(metadata.dev(), metadata.ino());
        let found = DiskUsers::search(&proc, &identity);
        let users: Vec<_> = found.users.iter().map(ToString::to_string).collect();
        assert_eq!(users, ["qemu-system-x86 (process 10)"]);
        assert!(found.is_complete);
        // Files that are not visible.
        fs::create_dir(proc.join("14")).unwrap();
        fs::write(proc.join("14/fd"), "").unwrap();
        assert!(!DiskUsers::search(&proc, &identity).is_complete);
    }
}
