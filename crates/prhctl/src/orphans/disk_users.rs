// SPDX-License-Identifier: MIT OR Apache-2.0

//! The users of a disk on this host: processes that have it open, and the kernel.
//!
//! A virtual machine can live without a connection to a helper: QEMU connects again only when its
//! guest sends the next command. It has its disk open all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use linux_util::procfs::is_gone;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, makedev, open, statx};

use crate::block_device::{BlockDevice, PartKind};
use crate::console::escape_control;

/// Names of programs that open disks of others: helpers, multipathd, and udevd with its workers.
const OTHER_PROGRAMS: [&str; 4] = [
    "qemu-pr-helper",
    "multipathd",
    "systemd-udevd",
    "(udev-worker)",
];

/// Link of a process in the initial PID namespace (`PROC_PID_INIT_INO` of the kernel's
/// `proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// A process that has the disk open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskUser {
    pid: u32,
    /// Name of the program.
    name: String,
}

#[cfg(test)]
impl DiskUser {
    pub(super) fn for_test(pid: u32) -> Self {
        DiskUser {
            pid,
            name: "qemu-system-x86".to_owned(),
        }
    }
}

impl fmt::Display for DiskUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", escape_control(&self.name), self.pid)
    }
}

/// The users of a disk on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUsers {
    pub(crate) users: Vec<DiskUser>,
    /// True if the kernel uses the disk: it is mounted, or a part of a volume, an array, swap, or a
    /// target.
    pub(crate) is_held: bool,
    /// False if the open files of some processes are not visible.
    pub(crate) is_complete: bool,
}

/// Identity of a disk.
enum Identity {
    /// WWN of the logical unit.
    Wwn(String),
    /// Number of a block device without a WWN.
    Number(u64),
    /// Device and inode of the file.
    File(u64, u64),
}

impl DiskUsers {
    /// Returns what uses the disk at `path`, over any of its nodes, partitions and volumes.
    /// `device` is the block device, if it is one.
    pub(crate) fn of(path: &Path, device: Option<&BlockDevice>) -> Self {
        let Ok(file) = fs::metadata(path) else {
            return Self::default();
        };
        let disk = match device {
            Some(device) => match device.wwn() {
                Some(wwn) => Identity::Wwn(wwn),
                None => Identity::Number(file.rdev()),
            },
            None => Identity::File(file.dev(), file.ino()),
        };
        let found = Self::search(Path::new("/proc"), &disk);
        // In a PID namespace of its own, this process does not see all processes.
        let namespace = fs::read_link("/proc/self/ns/pid");
        let sees_all = namespace.is_ok_and(|name| name == Path::new(INITIAL_PID_NAMESPACE));
        DiskUsers {
            is_held: device.is_some_and(|device| is_held(path, device)),
            is_complete: found.is_complete && sees_all,
            ..found
        }
    }

    fn search(proc: &Path, disk: &Identity) -> Self {
        let Ok(entries) = fs::read_dir(proc) else {
            return Self::default();
        };
        let (mut users, mut is_complete) = (Vec::new(), true);
        let mut known = BTreeMap::new();
        for entry in entries.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let name = name.trim_end();
            if pid == std::process::id() || OTHER_PROGRAMS.contains(&name) {
                continue;
            }
            match has_open(&entry.path(), disk, &mut known) {
                Ok(true) => users.push(DiskUser {
                    pid,
                    name: name.to_owned(),
                }),
                Ok(false) => {}
                Err(error) => is_complete &= is_gone(&error),
            }
        }
        DiskUsers {
            users,
            is_held: false,
            is_complete,
        }
    }
}

/// Returns whether the kernel rejects to open the disk, or the map that it is a path of,
/// exclusively.
fn is_held(path: &Path, device: &BlockDevice) -> bool {
    let map = device
        .part()
        .filter(|part| part.kind == PartKind::Path)
        .and_then(|part| part.of.first().map(PathBuf::from));
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(map.as_deref().unwrap_or(path), flags, Mode::empty()).is_err()
}

/// Returns whether a process has the disk open. `known` has the devices that were examined.
fn has_open(
    process: &Path,
    disk: &Identity,
    known: &mut BTreeMap<(u32, u32, bool), bool>,
) -> io::Result<bool> {
    for entry in fs::read_dir(process.join("fd"))? {
        let Ok(entry) = entry else {
            continue;
        };
        // The file may have been closed meanwhile. A file server that does not answer is not asked.
        let path = entry.path();
        let Ok(file) = statx(
            CWD,
            &path,
            AtFlags::STATX_DONT_SYNC,
            StatxFlags::BASIC_STATS,
        ) else {
            continue;
        };
        let kind = FileType::from_raw_mode(file.stx_mode.into());
        let is_block = kind == FileType::BlockDevice;
        let number = (file.stx_rdev_major, file.stx_rdev_minor);
        let is_disk = match disk {
            Identity::File(device, inode) => {
                makedev(file.stx_dev_major, file.stx_dev_minor) == *device && file.stx_ino == *inode
            }
            Identity::Number(other) => is_block && makedev(number.0, number.1) == *other,
            Identity::Wwn(wwn) if is_block || kind == FileType::CharacterDevice => *known
                .entry((number.0, number.1, is_block))
                .or_insert_with(|| leads_to(&path, wwn)),
            Identity::Wwn(_) => false,
        };
        if is_disk {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a device node leads to the logical unit with this WWN: one of its disks, maps
/// and sg nodes, or a partition or volume on these.
fn leads_to(path: &Path, wwn: &str) -> bool {
    let Some(device) = BlockDevice::from_path(path).or_else(|| BlockDevice::of_generic_node(path))
    else {
        return false;
    };
    let is_disk = |device: &BlockDevice| device.wwn().as_deref() == Some(wwn);
    let below = device.part().map(|part| part.of).unwrap_or_default();
    let mut below = below
        .iter()
        .filter_map(|node| BlockDevice::from_path(Path::new(node)));
    is_disk(&device) || below.any(|device| is_disk(&device))
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
