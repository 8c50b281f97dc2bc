// SPDX-License-Identifier: MIT OR Apache-2.0

//! The device that a file descriptor refers to: its number, and its kind, which decides the
//! backend.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use linux_util::sg_io::supports_sg_io;
use rustix::fs::{AtFlags, FileType, StatxFlags, makedev, statx};

use crate::process::privileges::without_raw_io;

/// Block major numbers of SCSI disks (`Documentation/admin-guide/devices.txt`). They are fixed, so
/// these devices need no lookup in sysfs.
pub(crate) const SCSI_DISK_MAJORS: [u32; 16] = [
    8, 65, 66, 67, 68, 69, 70, 71, 128, 129, 130, 131, 132, 133, 134, 135,
];

/// Mask of the partition number in a SCSI disk's minor number; 0 is the whole disk.
const PARTITION_BITS: u32 = 0xf;

/// Maximum depth of a stack of device-mapper devices. A partition on a volume on a map is
/// plausible; a stack of this depth is a mistake.
const MAX_DM_DEPTH: usize = 8;

/// Prefix of a multipath map's UUID. multipathd sets the UUID, and the kernel does not allow
/// changing it.
const MULTIPATH_PREFIX: &str = "mpath-";

/// Class in sysfs of the disks of the SCSI layer's own multipathing (`scsi_multipath` patches,
/// posted to linux-scsi in 2026). The module of SCSI disks registers it.
const NATIVE_MULTIPATH_CLASS: &str = "scsi_mpath_disk";

/// Maximum length of the attributes of sysfs that are read here, in bytes. A device-mapper UUID has
/// at most 128 (`DM_UUID_LEN`).
const MAX_ATTRIBUTE_LEN: usize = 256;

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    /// A SCSI device, or a file that is not one: the kernel finds out when it gets a command.
    Passthrough,
    /// A part of a SCSI disk: a partition, or a device-mapper device that does not cover its disk.
    /// The kernel refuses `SG_IO` on it to a client, but with the helper's capability the command
    /// would reach the whole disk.
    Partition,
    /// A device-mapper multipath map: several paths to one logical unit.
    Multipath,
    /// A disk of the SCSI layer's own multipathing. The kernel sends a command to one of its paths,
    /// and the other paths have no device nodes.
    NativeMultipath,
    /// Another device-mapper device. Only a worker can examine the devices below it
    /// ([`mapped_kind`]).
    Mapped,
    /// A partition or a volume on the multipath disk with this number. It has no reservations of
    /// its own: a command to it would act on the whole logical unit, which others share.
    OnMultipath(DeviceId),
}

/// Number of a device, or the file system of a file that is not a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceId {
    /// A block device.
    Block(u32, u32),
    /// A character device.
    Character(u32, u32),
    /// A file that is not a device, with the number of its file system.
    File(u64),
    /// The descriptor cannot be examined, or there is none.
    Unknown,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(major, minor) => write!(f, "{major}:{minor}"),
            Self::Character(major, minor) => write!(f, "char {major}:{minor}"),
            Self::File(_) => f.write_str("(not a device)"),
            Self::Unknown => f.write_str("(unknown)"),
        }
    }
}

/// Returns the number of the device that `fd` refers to.
///
/// The kernel answers from its cache. A FUSE server, which can be the client, gets no request, so
/// the call does not wait for it.
pub(crate) fn device_id(fd: BorrowedFd<'_>) -> DeviceId {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(fd, c"", flags, StatxFlags::TYPE) else {
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
pub(crate) fn whole_scsi_disk(id: DeviceId) -> Option<DeviceId> {
    match id {
        DeviceId::Block(major, minor) if SCSI_DISK_MAJORS.contains(&major) => {
            Some(DeviceId::Block(major, minor & !PARTITION_BITS))
        }
        _ => None,
    }
}

/// Describes the file of `fd` for the log: a device by its number, any other file by its name.
pub(crate) fn describe(fd: BorrowedFd<'_>) -> String {
    match device_id(fd) {
        // Quoted, because a client can give the file any name.
        DeviceId::File(_) | DeviceId::Unknown => {
            file_name(fd).map_or_else(|_| "a file".to_owned(), |name| format!("file {name:?}"))
        }
        id => format!("device {id}"),
    }
}

/// Returns the name of the file of `fd`, which has this number, for trace events: the number of a
/// device, or the name of any other file.
pub(crate) fn name(fd: BorrowedFd<'_>, id: DeviceId) -> String {
    match id {
        // Escaped, so that the name cannot end a line or a quotation.
        DeviceId::File(_) | DeviceId::Unknown => file_name(fd).map_or_else(
            |_| "file".to_owned(),
            |name| name.to_string_lossy().escape_default().to_string(),
        ),
        id => id.to_string(),
    }
}

fn file_name(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Returns the kind of the device of `fd`, which has this number.
///
/// # Errors
///
/// * The descriptor could not be examined, so the device has no number.
/// * sysfs cannot be read, so a map cannot be told from a disk.
/// * The kernel lacks the memory for another set of capabilities, so a part cannot be told from a
///   disk.
pub(crate) fn kind(fd: BorrowedFd<'_>, id: DeviceId) -> io::Result<DeviceKind> {
    match id {
        DeviceId::Block(major, minor) => match whole_scsi_disk(id) {
            Some(disk) if disk != id => Ok(DeviceKind::Partition),
            Some(_) if !kernel_has_native_multipath() => Ok(DeviceKind::Passthrough),
            Some(_) => Ok(match is_native_multipath(&sysfs_path(major, minor))? {
                true => DeviceKind::NativeMultipath,
                false => DeviceKind::Passthrough,
            }),
            None => kind_in_sysfs(fd, &sysfs_path(major, minor)),
        },
        DeviceId::Character(..) | DeviceId::File(_) => Ok(DeviceKind::Passthrough),
        DeviceId::Unknown => Err(io::Error::other("the descriptor cannot be examined")),
    }
}

/// Returns the entry of a block device in sysfs, which is a symbolic link to its directory.
pub(crate) fn sysfs_path(major: u32, minor: u32) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// Returns whether the kernel supports native multipath disks. A descriptor of a SCSI disk must be
/// open: then the class is registered, if it ever is, so the answer does not change.
fn kernel_has_native_multipath() -> bool {
    static RESULT: OnceLock<bool> = OnceLock::new();
    *RESULT.get_or_init(|| {
        let class = Path::new("/sys/class").join(NATIVE_MULTIPATH_CLASS);
        class.try_exists().unwrap_or(true)
    })
}

/// Returns whether the disk at `device` in sysfs is a native multipath disk: its directory is
/// `/sys/devices/virtual/scsi_mpath_disk/scsi_mpath_disk0/sda`, for example.
fn is_native_multipath(device: &Path) -> io::Result<bool> {
    let path = fs::canonicalize(device)?;
    // The last name is that of the disk.
    let mut classes = path.iter().rev().skip(1);
    Ok(classes.any(|name| name == NATIVE_MULTIPATH_CLASS))
}

/// Returns the kind of the block device at `device` in sysfs, which is not a SCSI disk by its
/// number.
fn kind_in_sysfs(fd: BorrowedFd<'_>, device: &Path) -> io::Result<DeviceKind> {
    match mapper_uuid(device)? {
        Some(uuid) if is_multipath_uuid(&uuid.read()?) => Ok(DeviceKind::Multipath),
        Some(_) => Ok(DeviceKind::Mapped),
        None => {
            // Without this check every map would be a single device if sysfs is not mounted.
            fs::metadata(device)?;
            passthrough_or_partition(fd, device)
        }
    }
}

/// Returns the kind of the device-mapper device of `fd`, which has this number. This reads
/// directories of sysfs, which the sandbox of the helper itself does not allow.
///
/// # Errors
///
/// Returns the errors of [`kind`], and an error if the stack of devices is deeper than
/// [`MAX_DM_DEPTH`].
pub(crate) fn mapped_kind(fd: BorrowedFd<'_>, id: DeviceId) -> io::Result<DeviceKind> {
    let DeviceId::Block(major, minor) = id else {
        return Err(io::Error::other(format!("{id} is not a block device")));
    };
    let device = sysfs_path(major, minor);
    match find_multipath_disk(&device, MAX_DM_DEPTH)? {
        Some(map) if map == device => Ok(DeviceKind::Multipath),
        Some(map) => Ok(DeviceKind::OnMultipath(device_id_from_sysfs(&map)?)),
        None => passthrough_or_partition(fd, &device),
    }
}

fn passthrough_or_partition(fd: BorrowedFd<'_>, device: &Path) -> io::Result<DeviceKind> {
    // Some drivers (bcache) pass on the commands of their partitions without a check.
    let is_part = device.join("partition").try_exists()? || !covers_disk(fd)?;
    Ok(match is_part {
        true => DeviceKind::Partition,
        false => DeviceKind::Passthrough,
    })
}

/// Returns whether this is the UUID of a multipath map.
pub(crate) fn is_multipath_uuid(uuid: &str) -> bool {
    uuid.starts_with(MULTIPATH_PREFIX)
}

/// Returns the UUID of the device-mapper device at `device` in sysfs; `None` for every other
/// device.
pub(crate) fn mapper_uuid(device: &Path) -> io::Result<Option<Attribute>> {
    match Attribute::open(&device.join("dm/uuid")) {
        Ok(uuid) => Ok(Some(uuid)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the device covers every SCSI disk below it, or passes on no commands at all.
///
/// The kernel checks that: at each level of a stack of devices it accepts commands for a part of a
/// disk only with `CAP_SYS_RAWIO`.
fn covers_disk(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let without = without_raw_io()?;
    let is_allowed = supports_sg_io(fd);
    drop(without);
    // A device that accepts no commands at all is not a part of a SCSI disk.
    Ok(is_allowed || !supports_sg_io(fd))
}

/// Returns the multipath map that the block device at `device` in sysfs is, or the map or native
/// multipath disk that it lies on.
fn find_multipath_disk(device: &Path, depth: usize) -> io::Result<Option<PathBuf>> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other("the stack of devices is too deep"));
    };
    match mapper_uuid(device)? {
        Some(uuid) if is_multipath_uuid(&uuid.read()?) => return Ok(Some(device.to_owned())),
        Some(_) => {}
        // No other kind of device passes on SCSI commands to devices below it.
        None => return Ok(is_native_multipath(device)?.then(|| device.to_owned())),
    }
    for below in fs::read_dir(device.join("slaves"))? {
        if let Some(map) = find_multipath_disk(&below?.path(), depth)? {
            return Ok(Some(map));
        }
    }
    Ok(None)
}

/// Open attribute of sysfs.
#[derive(Debug)]
pub(crate) struct Attribute(File);

impl Attribute {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Reads the current value, without the trailing newline. Fails if the device was removed.
    pub(crate) fn read(&self) -> io::Result<String> {
        // The kernel returns an attribute in one piece.
        let mut buffer = [0; MAX_ATTRIBUTE_LEN];
        let length = self.0.read_at(&mut buffer, 0)?;
        let text = buffer.get(..length).unwrap_or_default();
        Ok(String::from_utf8_lossy(text).trim_end().to_owned())
    }
}

/// Returns the number of the block device at `device` in sysfs.
pub(crate) fn device_id_from_sysfs(device: &Path) -> io::Result<DeviceId> {
    let text = Attribute::open(&device.join("dev"))?.read()?;
    let parts = text.split_once(':');
    let parts = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) =
        parts.ok_or_else(|| io::Error::other(format!("invalid device number {text:?}")))?;
    Ok(DeviceId::Block(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_and_character_devices_pass_through() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(device_id(null.as_fd()), DeviceId::Character(1, 3));
        let kind = |id| kind(null.as_fd(), id);
        let null_kind = kind(DeviceId::Character(1, 3));
        assert_eq!(null_kind.unwrap(), DeviceKind::Passthrough);
        let file = tempfile::tempfile().unwrap();
        let id = device_id(file.as_fd());
        assert!(matches!(id, DeviceId::File(_)));
        assert_eq!(kind(id).unwrap(), DeviceKind::Passthrough);
    }

    #[test]
    fn scsi_minor_number_tells_partition() {
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
            let id = DeviceId::Block(8, minor);
            assert_eq!(kind(null.as_fd(), id).unwrap(), expected, "{id}");
        }
    }

    #[test]
    fn unexamined_fd_has_no_kind() {
        let null = File::open("/dev/null").unwrap();
        assert!(kind(null.as_fd(), DeviceId::Unknown).is_err());
    }

    #[test]
    fn devices_have_numbers_and_files_names() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(describe(null.as_fd()), "device char 1:3");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a\nb");
        let file = File::create(&path).unwrap();
        assert_eq!(describe(file.as_fd()), format!("file {path:?}"));
        assert!(!describe(file.as_fd()).contains('\n'));
        assert_eq!(name(null.as_fd(), device_id(null.as_fd())), "char 1:3");
        assert!(name(file.as_fd(), DeviceId::Unknown).ends_with("/a\\nb"));
    }

    #[test]
    fn block_device_without_sysfs_entry_has_no_kind() {
        // Major number 120 is for local use, so no driver has it.
        let null = File::open("/dev/null").unwrap();
        assert!(kind(null.as_fd(), DeviceId::Block(120, 77)).is_err());
    }

    /// Creates a directory as in sysfs for a device-mapper device on top of `below`.
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
    fn devices_on_multipath_maps_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
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
            let found = find_multipath_disk(device, MAX_DM_DEPTH).unwrap();
            assert_eq!(found, expected, "{device:?}");
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
    fn native_multipath_disks_are_found_by_class() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let native = root.join("virtual/scsi_mpath_disk/scsi_mpath_disk0/sdc");
        let single = root.join("pci0000:00/2:0:0:0/block/scsi_mpath_disk");
        for (name, device) in [("sdc", &native), ("sda", &single)] {
            create_dir_all(device).unwrap();
            symlink(device, root.join(name)).unwrap();
        }
        assert!(is_native_multipath(&root.join("sdc")).unwrap());
        assert!(!is_native_multipath(&root.join("sda")).unwrap());
        assert!(is_native_multipath(&root.join("sdz")).is_err());
        let volume = map(root, "dm-0", "LVM-x", &["sdc"]);
        let found = find_multipath_disk(&volume, MAX_DM_DEPTH).unwrap();
        assert_eq!(found, Some(volume.join("slaves/sdc")));
        let plain = map(root, "dm-1", "LVM-y", &["sda"]);
        assert_eq!(find_multipath_disk(&plain, MAX_DM_DEPTH).unwrap(), None);
    }

    #[test]
    fn endless_device_stack_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let device = map(dir.path(), "dm-0", "LVM-x", &["dm-0"]);
        assert!(find_multipath_disk(&device, MAX_DM_DEPTH).is_err());
    }
}
