//! What is known of a request's device before the command counts at it. Nothing here waits for a
//! device, a file system or another process.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};

use pr_helper_protocol::{Request, RequestFd};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::command::device::{self, DeviceId};
use crate::command::sg_disks::SgDisks;

/// The major number of sg nodes (`Documentation/admin-guide/devices.txt`).
const SG_MAJOR: u32 = 21;

/// What the client may do with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdAccess {
    /// The kernel did not hand over the descriptor.
    Lost,
    /// The descriptor was opened with `O_PATH`: the client needs no permission on the file for
    /// that.
    PathOnly,
    /// The client can read.
    ReadOnly,
    /// The client can write.
    Writable,
}

impl FdAccess {
    /// Returns what the client may do with `descriptor`.
    #[must_use]
    pub fn from_fd(descriptor: BorrowedFd<'_>) -> Self {
        match fcntl_getfl(descriptor) {
            Ok(flags) if flags.contains(OFlags::PATH) => Self::PathOnly,
            Ok(flags) if flags & OFlags::ACCMODE == OFlags::RDONLY => Self::ReadOnly,
            Ok(_) => Self::Writable,
            // A descriptor whose flags cannot be read is not known to allow anything.
            Err(_) => Self::PathOnly,
        }
    }
}

/// The device of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestDevice {
    /// The device's number.
    pub id: DeviceId,
    /// What the client may do with the descriptor.
    pub access: FdAccess,
    /// What the command counts at; `None` if the command is answered without the device, and
    /// closing the descriptor does not wait for the device either.
    pub limit_key: Option<LimitKey>,
}

/// What commands are counted at (`--max-commands-per-device`). A client must not be able to make
/// keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// A block device. A SCSI disk's partitions and sg node count at the disk.
    Block(u32, u32),
    /// An sg node that has no disk, by its minor number.
    Sg(u32),
    /// All other character devices of one driver, by the major number.
    Character(u32),
    /// All files on the file system of the soft LUNs.
    SoftLuns,
    /// All other descriptors.
    Other,
}

impl LimitKey {
    /// Returns a number by which keys can be spread.
    #[must_use]
    pub fn index(self) -> u32 {
        match self {
            // Every sixteenth minor number is a whole SCSI disk.
            Self::Block(_, minor) => minor ^ (minor >> 4),
            Self::Sg(number) | Self::Character(number) => number,
            Self::SoftLuns => 1,
            Self::Other => 0,
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(major, minor) => write!(f, "device {major}:{minor}"),
            Self::Sg(minor) => write!(f, "device char {SG_MAJOR}:{minor}"),
            Self::Character(major) => write!(f, "character devices of major number {major}"),
            Self::SoftLuns => f.write_str("files on the file system of the soft LUNs"),
            Self::Other => f.write_str("descriptors of no device"),
        }
    }
}

/// The examination of requests' devices.
#[derive(Debug, Default)]
pub struct DeviceInspector {
    /// The file system of the soft LUNs, if there are any.
    soft_luns: Option<DeviceId>,
    sg_disks: SgDisks,
}

impl DeviceInspector {
    /// Creates the examination for a helper whose soft LUNs are in this directory.
    #[must_use]
    pub fn new(soft_luns: Option<BorrowedFd<'_>>) -> Self {
        Self {
            soft_luns: soft_luns.map(device::device_id),
            sg_disks: SgDisks::default(),
        }
    }

    /// Examines the device of a request.
    #[must_use]
    pub fn inspect(&self, request: &Request) -> RequestDevice {
        let RequestFd::Open(descriptor) = &request.fd else {
            return RequestDevice {
                id: DeviceId::Unknown,
                access: FdAccess::Lost,
                limit_key: None,
            };
        };
        let number = device::device_id(descriptor.as_fd());
        let access = FdAccess::from_fd(descriptor.as_fd());
        RequestDevice {
            id: number,
            access,
            // The kernel asks no driver and no file system when such a descriptor is closed.
            limit_key: (access != FdAccess::PathOnly).then(|| self.limit_key(number)),
        }
    }

    fn limit_key(&self, number: DeviceId) -> LimitKey {
        match device::whole_scsi_disk(number).unwrap_or(number) {
            DeviceId::Block(major, minor) => LimitKey::Block(major, minor),
            DeviceId::Character(SG_MAJOR, minor) => match self.sg_disks.disk(SG_MAJOR, minor) {
                Some((major, minor)) => LimitKey::Block(major, minor),
                None => LimitKey::Sg(minor),
            },
            DeviceId::Character(major, _) => LimitKey::Character(major),
            file @ DeviceId::File(_) if self.soft_luns == Some(file) => LimitKey::SoftLuns,
            DeviceId::File(_) | DeviceId::Unknown => LimitKey::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::Command;
    use std::fs::{File, OpenOptions};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::net::UnixStream;

    fn examine(targets: &DeviceInspector, descriptor: impl Into<OwnedFd>) -> RequestDevice {
        let mut cdb = [0; 16];
        cdb[0] = 0x5e;
        targets.inspect(&Request {
            command: Command::new(cdb).unwrap(),
            fd: RequestFd::Open(descriptor.into()),
            parameters: Vec::new(),
        })
    }

    fn null(options: &mut OpenOptions) -> File {
        options.open("/dev/null").unwrap()
    }

    #[test]
    fn descriptors_have_the_access_they_were_opened_with() {
        let path = i32::try_from(OFlags::PATH.bits()).unwrap();
        for (options, expected) in [
            (File::options().read(true), FdAccess::ReadOnly),
            (File::options().write(true), FdAccess::Writable),
            (File::options().read(true).write(true), FdAccess::Writable),
            (
                File::options().read(true).custom_flags(path),
                FdAccess::PathOnly,
            ),
        ] {
            let target = examine(&DeviceInspector::default(), null(options));
            assert_eq!(target.access, expected);
            let key = (expected != FdAccess::PathOnly).then_some(LimitKey::Character(1));
            assert_eq!(target.limit_key, key);
            assert_eq!(target.id, DeviceId::Character(1, 3));
        }
    }

    #[test]
    fn client_makes_no_limit_keys() {
        let targets = DeviceInspector::default();
        let file = examine(&targets, tempfile::tempfile().unwrap());
        let socket = examine(&targets, UnixStream::pair().unwrap().0);
        for target in [file, socket] {
            assert_eq!(target.limit_key, Some(LimitKey::Other));
        }
        let number = DeviceId::Character(136, 7);
        assert_eq!(targets.limit_key(number), LimitKey::Character(136));
    }

    #[test]
    fn partition_counts_at_its_disk() {
        let targets = DeviceInspector::default();
        for minor in [0x10, 0x11, 0x1f] {
            let key = targets.limit_key(DeviceId::Block(65, minor));
            assert_eq!(key, LimitKey::Block(65, 0x10));
        }
        let map = DeviceId::Block(253, 3);
        assert_eq!(targets.limit_key(map), LimitKey::Block(253, 3));
    }

    #[test]
    fn soft_luns_count_apart_from_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let targets = DeviceInspector::new(Some(File::open(dir.path()).unwrap().as_fd()));
        let port = File::create(dir.path().join("port")).unwrap();
        assert_eq!(examine(&targets, port).limit_key, Some(LimitKey::SoftLuns));
        // sockfs and /proc are other file systems.
        let other = File::open("/proc/self/status").unwrap();
        assert_eq!(examine(&targets, other).limit_key, Some(LimitKey::Other));
    }
}
