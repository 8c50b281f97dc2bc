// SPDX-License-Identifier: MIT OR Apache-2.0

//! Query of the helper to the process that resolves names, of a fixed form.
//!
//! | field | bytes |
//! |---|---|
//! | kind: process, block device or character device | 1 |
//! | process ID, or major number, big-endian | 4 |
//! | inode of the process descriptor, 0 if it is not known; or minor number, big-endian | 8 |

use crate::command::device::DeviceId;

/// Length of a query in bytes.
pub const LEN: usize = 13;

/// Maximum length of a reply in bytes.
pub const MAX_REPLY_LEN: usize = 4096;

/// Query of a name. The reply is a JSON value: `null` if there is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// A process. The reply is a [`helper_state::Process`] without IDs.
    Process {
        /// Process ID.
        pid: u32,
        /// Inode number of the process descriptor; `None` before Linux 6.9.
        inode: Option<u64>,
    },
    /// A block device, by its major and minor numbers. The reply is a
    /// [`DiskName`](super::disk_name::DiskName).
    Block(u32, u32),
    /// A character device. The reply is as for a block device.
    Character(u32, u32),
}

impl Query {
    /// Returns the query of a device; `None` if it has no number.
    #[must_use]
    pub const fn from_device(device: DeviceId) -> Option<Self> {
        match device {
            DeviceId::Block(major, minor) => Some(Self::Block(major, minor)),
            DeviceId::Character(major, minor) => Some(Self::Character(major, minor)),
            DeviceId::File(_) | DeviceId::Unknown => None,
        }
    }

    /// Encodes the query.
    #[must_use]
    pub fn encode(self) -> [u8; LEN] {
        let (kind, first, second) = match self {
            Self::Process { pid, inode } => (b'p', pid, inode.unwrap_or(0)),
            Self::Block(major, minor) => (b'b', major, minor.into()),
            Self::Character(major, minor) => (b'c', major, minor.into()),
        };
        let [a, b, c, d] = first.to_be_bytes();
        let [e, f, g, h, i, j, k, l] = second.to_be_bytes();
        [kind, a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Decodes a query; `None` if it is malformed.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first_chunk()?;
        let (first, second) = (
            u32::from_be_bytes(*first),
            u64::from_be_bytes(rest.try_into().ok()?),
        );
        match kind {
            b'p' => Some(Self::Process {
                pid: first,
                inode: (second != 0).then_some(second),
            }),
            b'b' => Some(Self::Block(first, second.try_into().ok()?)),
            b'c' => Some(Self::Character(first, second.try_into().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_round_trip() {
        for query in [
            Query::Process {
                pid: 7,
                inode: None,
            },
            Query::Process {
                pid: u32::MAX,
                inode: Some(u64::MAX),
            },
            Query::Block(8, 0x0001_0203),
            Query::Character(21, 0),
        ] {
            assert_eq!(Query::decode(&query.encode()), Some(query));
        }
    }

    #[test]
    fn malformed_queries_are_rejected() {
        let query = Query::Block(8, 0).encode();
        let mut minor = query;
        minor[5] = 1;
        for bytes in [
            &[][..],
            &query[..LEN - 1],
            &[&query[..], &[0]].concat(),
            &[b'x'; LEN],
            &minor,
        ] {
            assert_eq!(Query::decode(bytes), None, "{bytes:?}");
        }
    }
}
