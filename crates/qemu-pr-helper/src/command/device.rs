//! From a file descriptor to what it is: which backend executes its commands.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use linux_util::sg_io::supports_sg_io;
use rustix::fs::{AtFlags, FileType, StatxFlags, makedev, statx};

use crate::process::privileges::without_raw_io;

/// The block major numbers of SCSI disks (`Documentation/admin-guide/devices.txt`). They are fixed,
/// so these need no look at sysfs.
pub(crate) const SCSI_DISK_MAJORS: [u32; 16] = [
    8, 65, 66, 67, 68, 69, 70, 71, 128, 129, 130, 131, 132, 133, 134, 135,
];

/// The low bits of a SCSI disk's minor number, which number its partitions; 0 is the whole disk.
const PARTITION_BITS: u32 = 0xf;

/// How many devices may lie on top of each other before we give up: partition on volume on map and
/// more is odd, a chain that long is a mistake.
const MAX_DM_DEPTH: usize = 8;

/// What the UUID of a device-mapper map begins with if its target is multipath. It is
/// multipathd's mark, and the kernel lets nobody change it.
const MULTIPATH_PREFIX: &str = "mpath-";

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// One SCSI device, or something that is none: the kernel knows which when it is sent a command.
    Passthrough,
    /// A part of a SCSI disk: a partition, or a device-mapper device that does not cover its disk.
    /// The kernel refuses `SG_IO` on it to a client, but the helper's capability would let the
    /// command reach the whole disk.
    Partition,
    /// A device-mapper multipath map: several paths to one logical unit.
    Multipath,
    /// Another device-mapper device. Only a worker can find out what it lies on ([`mapped_kind`]).
    Mapped,
    /// A device on top of the multipath map with this number: a partition, a volume. It has no reservations
    /// of its own: a command to it would be one to the whole logical unit, which others share.
    OnMultipath(DeviceId),
}

/// A block or character device's number, or the file system of a file that is no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceId {
    /// A block device.
    Block(u32, u32),
    /// A character device.
    Character(u32, u32),
    /// A file that is no device: the number of its file system.
    File(u64),
    /// It cannot be read, or there is nothing to read it from.
    Unknown,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(major, minor) => write!(f, "{major}:{minor}"),
            Self::Character(major, minor) => write!(f, "char {major}:{minor}"),
            Self::File(_) | Self::Unknown => f.write_str("no device"),
        }
    }
}

/// Returns the number of the device that `descriptor` refers to.
///
/// The file system answers from what the kernel has cached: a FUSE server, which can be the client,
/// is not asked, so the call does not wait for it.
#[must_use]
pub fn device_id(descriptor: BorrowedFd<'_>) -> DeviceId {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(descriptor, c"", flags, StatxFlags::TYPE) else {
        return DeviceId::Unknown;
    };
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::BlockDevice => DeviceId::Block(stat.stx_rdev_major, stat.stx_rdev_minor),
        FileType::CharacterDevice => DeviceId::Character(stat.stx_rdev_major, stat.stx_rdev_minor),
        _ => DeviceId::File(makedev(stat.stx_dev_major, stat.stx_dev_minor)),
    }
}

/// Returns the whole disk of a SCSI disk's partition, or the SCSI disk itself; `None` for every
/// other device.
#[must_use]
pub fn whole_scsi_disk(id: DeviceId) -> Option<DeviceId> {
    match id {
        DeviceId::Block(major, minor) if SCSI_DISK_MAJORS.contains(&major) => {
            Some(DeviceId::Block(major, minor & !PARTITION_BITS))
        }
        _ => None,
    }
}

/// What `descriptor` refers to, for people: a device by its number, anything else by its name.
#[must_use]
pub fn describe(descriptor: BorrowedFd<'_>) -> String {
    match device_id(descriptor) {
        // Quoted, as a client may have given it any name.
        DeviceId::File(_) | DeviceId::Unknown => file_name(descriptor)
            .map_or_else(|_| "a file".to_owned(), |name| format!("file {name:?}")),
        number => format!("device {number}"),
    }
}

/// What `descriptor` refers to, whose number this is, in a word: that number, or the name of a file.
#[must_use]
pub fn name(descriptor: BorrowedFd<'_>, id: DeviceId) -> String {
    match id {
        // Without what would end a line or a quotation.
        DeviceId::File(_) | DeviceId::Unknown => file_name(descriptor).map_or_else(
            |_| "file".to_owned(),
            |name| name.to_string_lossy().escape_default().to_string(),
        ),
        id => id.to_string(),
    }
}

fn file_name(descriptor: BorrowedFd<'_>) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// Returns the kind of the device that `descriptor` refers to and that has this number.
///
/// # Errors
///
/// * The descriptor could not be examined, so the device has no number.
/// * sysfs cannot be read, so a map cannot be told from a disk.
/// * The kernel lacks the memory for another set of capabilities, so a part cannot be told from a
///   disk.
pub fn kind(descriptor: BorrowedFd<'_>, id: DeviceId) -> io::Result<DeviceKind> {
    match id {
        DeviceId::Block(major, minor) => match whole_scsi_disk(id) {
            Some(disk) if disk == id => Ok(DeviceKind::Passthrough),
            Some(_) => Ok(DeviceKind::Partition),
            None => {
                let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
                kind_in_sysfs(descriptor, &device)
            }
        },
        DeviceId::Character(..) | DeviceId::File(_) => Ok(DeviceKind::Passthrough),
        DeviceId::Unknown => Err(io::Error::other("the descriptor cannot be examined")),
    }
}

/// Returns the kind of the block device at `device` in sysfs, which is no SCSI disk by its number.
fn kind_in_sysfs(descriptor: BorrowedFd<'_>, device: &Path) -> io::Result<DeviceKind> {
    // Without this check a sysfs that is not there would make every map a single device.
    fs::metadata(device)?;
    match mapper_uuid(device)? {
        Some(uuid) if uuid.starts_with(MULTIPATH_PREFIX) => Ok(DeviceKind::Multipath),
        Some(_) => Ok(DeviceKind::Mapped),
        None => single_or_part(descriptor, device),
    }
}

/// Returns the kind of the device-mapper device that `descriptor` refers to and that has this
/// number. This reads directories of sysfs, which the helper itself is not allowed.
///
/// # Errors
///
/// As [`kind`], and if devices lie on each other in more than eight levels.
pub fn mapped_kind(descriptor: BorrowedFd<'_>, id: DeviceId) -> io::Result<DeviceKind> {
    let DeviceId::Block(major, minor) = id else {
        return Err(io::Error::other(format!("{id} is no block device")));
    };
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    match multipath(&device, MAX_DM_DEPTH)? {
        Some(map) if map == device => Ok(DeviceKind::Multipath),
        Some(map) => Ok(DeviceKind::OnMultipath(device_id_from_sysfs(&map)?)),
        None => single_or_part(descriptor, &device),
    }
}

fn single_or_part(descriptor: BorrowedFd<'_>, device: &Path) -> io::Result<DeviceKind> {
    // Some drivers (bcache) pass the commands of their partitions on without a check.
    let is_part = device.join("partition").try_exists()? || !covers_disk(descriptor)?;
    Ok(if is_part {
        DeviceKind::Partition
    } else {
        DeviceKind::Passthrough
    })
}

/// Returns the UUID of the device-mapper device at `device` in sysfs; `None` for every other device.
fn mapper_uuid(device: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(device.join("dm/uuid")) {
        Ok(uuid) => Ok(Some(uuid)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the device covers every SCSI disk below it, as far as it passes commands on at
/// all.
///
/// The kernel knows: it takes commands for a part of a disk from `CAP_SYS_RAWIO` alone, at each
/// level of a stack of devices.
fn covers_disk(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let without = without_raw_io()?;
    let is_taken = supports_sg_io(descriptor);
    drop(without);
    // A device that takes no commands from anyone is no part of a SCSI disk.
    Ok(is_taken || !supports_sg_io(descriptor))
}

/// The multipath map that the block device at `device` in sysfs is, or lies on.
fn multipath(device: &Path, depth: usize) -> io::Result<Option<PathBuf>> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other(
            "devices lie too deep on top of each other",
        ));
    };
    match mapper_uuid(device)? {
        Some(uuid) if uuid.starts_with(MULTIPATH_PREFIX) => return Ok(Some(device.to_owned())),
        Some(_) => {}
        // Nothing else that passes SCSI commands on has devices under it.
        None => return Ok(None),
    }
    for below in fs::read_dir(device.join("slaves"))? {
        if let Some(map) = multipath(&below?.path(), depth)? {
            return Ok(Some(map));
        }
    }
    Ok(None)
}

/// The number of the block device at `device` in sysfs.
///
/// # Errors
///
/// That sysfs cannot be read, or has something else there.
pub fn device_id_from_sysfs(device: &Path) -> io::Result<DeviceId> {
    let text = fs::read_to_string(device.join("dev"))?;
    let parts = text.trim_end().split_once(':');
    let parts = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = parts.ok_or_else(|| io::Error::other(format!("no number: {text:?}")))?;
    Ok(DeviceId::Block(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, create_dir_all, write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_and_character_devices_are_single() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(device_id(null.as_fd()), DeviceId::Character(1, 3));
        let kind = |id| kind(null.as_fd(), id);
        assert_eq!(
            kind(DeviceId::Character(1, 3)).unwrap(),
            DeviceKind::Passthrough
        );
        let file = tempfile::tempfile().unwrap();
        let number = device_id(file.as_fd());
        assert!(matches!(number, DeviceId::File(_)));
        assert_eq!(kind(number).unwrap(), DeviceKind::Passthrough);
    }

    #[test]
    fn scsi_disk_partition_is_a_part() {
        let null = File::open("/dev/null").unwrap();
        for (minor, expected) in [
            (0, DeviceKind::Passthrough),
            (1, DeviceKind::Partition),
            (15, DeviceKind::Partition),
            (16, DeviceKind::Passthrough),
            // The 257th disk of a major number, and its third partition.
            (0x100, DeviceKind::Passthrough),
            (0x103, DeviceKind::Partition),
        ] {
            let number = DeviceId::Block(8, minor);
            assert_eq!(kind(null.as_fd(), number).unwrap(), expected, "{number}");
        }
    }

    #[test]
    fn unexamined_descriptor_has_no_kind() {
        let null = File::open("/dev/null").unwrap();
        assert!(kind(null.as_fd(), DeviceId::Unknown).is_err());
    }

    #[test]
    fn devices_have_numbers_and_files_have_names() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(describe(null.as_fd()), "device char 1:3");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a\nb");
        let file = File::create(&path).unwrap();
        assert_eq!(describe(file.as_fd()), format!("file {path:?}"));
        assert!(!describe(file.as_fd()).contains('\n'));
        assert_eq!(name(null.as_fd(), device_id(null.as_fd())), "char 1:3");
        assert!(name(file.as_fd(), DeviceId::Unknown).ends_with("/a\\nb"));
    }

    #[test]
    fn a_block_device_that_sysfs_does_not_know_is_an_error() {
        // Major 120 is for local use: no driver has it.
        let null = File::open("/dev/null").unwrap();
        assert!(kind(null.as_fd(), DeviceId::Block(120, 77)).is_err());
    }

    /// A folder as sysfs shows a device-mapper device, on top of those in `below`.
    fn map(root: &Path, name: &str, uuid: &str, below: &[&str]) -> PathBuf {
        let device = root.join(name);
        create_dir_all(device.join("dm")).unwrap();
        create_dir_all(device.join("slaves")).unwrap();
        write(device.join("dm/uuid"), format!("{uuid}\n")).unwrap();
        for name in below {
            symlink(root.join(name), device.join("slaves").join(name)).unwrap();
        }
        device
    }

    #[test]
    fn maps_and_what_lies_on_them_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        create_dir_all(root.join("sda")).unwrap();
        let mpath = map(root, "dm-0", "mpath-3600", &["sda"]);
        let partition = map(root, "dm-1", "part1-mpath-3600", &["dm-0"]);
        let volume = map(root, "dm-2", "LVM-x", &["dm-1"]);
        let plain = map(root, "dm-3", "LVM-y", &["sda"]);
        let below = |device: &Path| device.join("slaves/dm-0");
        let deepest = volume.join("slaves/dm-1/slaves/dm-0");
        for (device, expected) in [
            (&mpath, Some(mpath.clone())),
            (&partition, Some(below(&partition))),
            (&volume, Some(deepest)),
            (&plain, None),
            (&root.join("sda"), None),
        ] {
            assert_eq!(
                multipath(device, MAX_DM_DEPTH).unwrap(),
                expected,
                "{device:?}"
            );
        }
        write(mpath.join("dev"), "253:7\n").unwrap();
        assert_eq!(
            device_id_from_sysfs(&below(&partition)).unwrap(),
            DeviceId::Block(253, 7)
        );
        write(mpath.join("dev"), "253\n").unwrap();
        assert!(device_id_from_sysfs(&mpath).is_err());
    }

    #[test]
    fn a_stack_without_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let device = map(folder.path(), "dm-0", "LVM-x", &["dm-0"]);
        assert!(multipath(&device, MAX_DM_DEPTH).is_err());
    }
}
