// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examination of a request's device, before the command counts against the device's limit. It
//! never waits for a device, a file system or another process.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};

use pr_helper_protocol::{Request, RequestFd};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::command::device::{self, DeviceId};
use crate::command::sg_disks::SgDisks;

/// The major number of sg nodes (`Documentation/admin-guide/devices.txt`).
const SG_MAJOR: u32 = 21;

/// Access that a descriptor gives its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdAccess {
    /// The kernel did not pass the descriptor.
    Lost,
    /// Opened with `O_PATH`, which requires no permission on the file.
    PathOnly,
    /// Opened for reading.
    ReadOnly,
    /// Opened for writing, or for reading and writing.
    Writable,
}

impl FdAccess {
    /// Returns the access of `fd`.
    pub(crate) fn from_fd(fd: BorrowedFd<'_>) -> Self {
        match fcntl_getfl(fd) {
            Ok(flags) if flags.contains(OFlags::PATH) => Self::PathOnly,
            Ok(flags) if flags & OFlags::ACCMODE == OFlags::RDONLY => Self::ReadOnly,
            Ok(_) => Self::Writable,
            // If the flags cannot be read, the least access is assumed.
            Err(_) => Self::PathOnly,
        }
    }
}

/// The device of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestDevice {
    /// The device's number.
    pub id: DeviceId,
    /// The access of the descriptor.
    pub access: FdAccess,
    /// Key of the limit that the command counts against; `None` if neither the reply nor the close
    /// of the descriptor waits for the device.
    pub limit_key: Option<LimitKey>,
}

/// Key of a limit on commands (`--max-commands-per-device`). A client must not be able to create
/// keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKey {
    /// A block device. A SCSI disk's partitions and its sg node count as the disk.
    Block(u32, u32),
    /// An sg node without a disk, by its minor number.
    Sg(u32),
    /// All other character devices of one driver, by the major number.
    Character(u32),
    /// All files on the file system of the soft LUNs.
    SoftLuns,
    /// All other descriptors.
    Other,
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(major, minor) => write!(f, "device {major}:{minor}"),
            Self::Sg(minor) => write!(f, "device char {SG_MAJOR}:{minor}"),
            Self::Character(major) => write!(f, "character devices of major number {major}"),
            Self::SoftLuns => f.write_str("files on the file system of the soft LUNs"),
            Self::Other => f.write_str("descriptors that are not devices"),
        }
    }
}

/// Examiner of requests' devices.
#[derive(Debug, Default)]
pub struct DeviceInspector {
    /// File system of the soft LUNs; `None` without soft LUNs.
    soft_luns: Option<DeviceId>,
    sg_disks: SgDisks,
}

impl DeviceInspector {
    /// Creates an inspector for a helper with soft LUNs in this directory.
    pub(crate) fn new(soft_luns: Option<BorrowedFd<'_>>) -> Self {
        Self {
            soft_luns: soft_luns.map(device::device_id),
            sg_disks: SgDisks::default(),
        }
    }

    /// Examines the device of a request.
    pub(crate) fn inspect(&self, request: &Request) -> RequestDevice {
        let RequestFd::Open(fd) = &request.fd else {
            return RequestDevice {
                id: DeviceId::Unknown,
                access: FdAccess::Lost,
                limit_key: None,
            };
        };
        let id = device::device_id(fd.as_fd());
        let access = FdAccess::from_fd(fd.as_fd());
        RequestDevice {
            id,
            access,
            // The close of an `O_PATH` descriptor involves no driver and no file system.
            limit_key: (access != FdAccess::PathOnly).then(|| self.limit_key(id)),
        }
    }

    fn limit_key(&self, id: DeviceId) -> LimitKey {
        match device::whole_scsi_disk(id).unwrap_or(id) {
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
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::net::UnixStream;

    fn inspect(inspector: &DeviceInspector, fd: impl Into<OwnedFd>) -> RequestDevice {
        let mut cdb = [0; 16];
        cdb[0] = 0x5e;
        inspector.inspect(&Request {
            command: Command::new(cdb).unwrap(),
            fd: RequestFd::Open(fd.into()),
            parameters: Vec::new(),
        })
    }

    #[test]
    fn access_is_that_of_the_open_flags() {
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
            let null = options.open("/dev/null").unwrap();
            let device = inspect(&DeviceInspector::default(), null);
            assert_eq!(device.access, expected);
            let key = (expected != FdAccess::PathOnly).then_some(LimitKey::Character(1));
            assert_eq!(device.limit_key, key);
            assert_eq!(device.id, DeviceId::Character(1, 3));
        }
    }

    #[test]
    fn clients_cannot_create_limit_keys() {
        let inspector = DeviceInspector::default();
        let file = inspect(&inspector, tempfile::tempfile().unwrap());
        let socket = inspect(&inspector, UnixStream::pair().unwrap().0);
        for device in [file, socket] {
            assert_eq!(device.limit_key, Some(LimitKey::Other));
        }
        let terminal = DeviceId::Character(136, 7);
        assert_eq!(inspector.limit_key(terminal), LimitKey::Character(136));
    }

    #[test]
    fn partition_counts_as_its_disk() {
        let inspector = DeviceInspector::default();
        for minor in [0x10, 0x11, 0x1f] {
            let key = inspector.limit_key(DeviceId::Block(65, minor));
            assert_eq!(key, LimitKey::Block(65, 0x10));
        }
        let map = DeviceId::Block(253, 3);
        assert_eq!(inspector.limit_key(map), LimitKey::Block(253, 3));
    }

    #[test]
    fn soft_luns_have_their_own_limit_key() {
        let dir = tempfile::tempdir().unwrap();
        let inspector = DeviceInspector::new(Some(File::open(dir.path()).unwrap().as_fd()));
        let port = File::create(dir.path().join("port")).unwrap();
        assert_eq!(
            inspect(&inspector, port).limit_key,
            Some(LimitKey::SoftLuns)
        );
        // sockfs and /proc are other file systems.
        let other = File::open("/proc/self/status").unwrap();
        assert_eq!(inspect(&inspector, other).limit_key, Some(LimitKey::Other));
    }
}
