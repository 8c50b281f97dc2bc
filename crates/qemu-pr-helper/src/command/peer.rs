// SPDX-License-Identifier: MIT OR Apache-2.0

//! The process at the other end of a connection.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use helper_state::Process;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::fs::{AtFlags, StatxFlags, fstatfs, statx};

/// `PIDFS_MAGIC` (`include/uapi/linux/magic.h`): the file system of process descriptors since Linux
/// 6.9. On older kernels all process descriptors have the same inode number.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// The peer of a connection. `Display` is its name in log and trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Number of the connection, counted from 1.
    connection_id: u64,
    /// Process ID; 0 if the process is in a PID namespace that this process cannot see.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    process_key: ProcessKey,
    /// Name of the process, once it has been resolved.
    process: Arc<OnceLock<Arc<Process>>>,
}

/// Identity of a process, by which connections are counted and warnings are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessKey {
    /// Inode number of its process descriptor, which is unique until the next boot. It exists since
    /// Linux 6.9, also for processes of other PID namespaces.
    Pidfd(u64),
    /// Process ID, which another process can get later.
    Pid(i32),
    /// User ID of a process that cannot be told apart from others of its user, because it is in a
    /// PID namespace that this process cannot see, on a kernel older than 6.9.
    User(u32),
}

impl ProcessKey {
    /// Returns the key of the process at the other end of `socket`, which has these IDs.
    fn from_socket(socket: &impl AsFd, pid: i32, uid: u32) -> Self {
        match (pidfd_inode(socket), pid) {
            (Some(inode), _) => Self::Pidfd(inode),
            (None, 1..) => Self::Pid(pid),
            (None, _) => Self::User(uid),
        }
    }
}

/// Returns the inode number of the peer's process descriptor, if the kernel has unique ones.
fn pidfd_inode(socket: &impl AsFd) -> Option<u64> {
    let pidfd = getsockopt(socket, sockopt::PeerPidfd).ok()?;
    let file_system = u64::try_from(fstatfs(&pidfd).ok()?.f_type).ok()?;
    if file_system != PIDFS_MAGIC {
        return None;
    }
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&pidfd, c"", flags, StatxFlags::INO).ok()?;
    Some(stat.stx_ino)
}

impl Peer {
    /// Returns the peer of `socket`.
    #[must_use]
    pub fn from_socket(socket: &impl AsFd, connection_id: u64) -> Self {
        // rustix is not used here, because its process ID cannot be 0, which a process in an
        // invisible PID namespace has.
        let (pid, uid) = match getsockopt(socket, sockopt::PeerCredentials) {
            Ok(peer) => (peer.pid(), peer.uid()),
            // Does not happen: the kernel stores the credentials when a client connects.
            Err(_) => (0, u32::MAX),
        };
        Self {
            connection_id,
            pid,
            uid,
            process_key: ProcessKey::from_socket(socket, pid, uid),
            process: Arc::default(),
        }
    }

    /// Returns the peer of a connection of a process with this ID.
    #[cfg(test)]
    pub(crate) fn of_process(connection_id: u64, pid: i32) -> Self {
        Self {
            connection_id,
            pid,
            uid: 0,
            process_key: ProcessKey::Pid(pid),
            process: Arc::default(),
        }
    }

    /// Returns the number of the connection, counted from 1.
    #[must_use]
    pub const fn connection_id(&self) -> u64 {
        self.connection_id
    }

    /// Returns the identity of the process.
    pub(crate) const fn process_key(&self) -> ProcessKey {
        self.process_key
    }

    /// Returns the process with its name, once it has been resolved.
    #[must_use]
    pub fn process(&self) -> Option<&Arc<Process>> {
        self.process.get()
    }

    /// Sets the process. It does not change anymore, in all copies of this value.
    pub(crate) fn set_process(&self, process: Arc<Process>) {
        // An earlier name stays.
        let _ = self.process.set(process);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connection_id,
            pid,
            uid,
            ..
        } = self;
        write!(f, "client {connection_id} (")?;
        if let Some(process) = self.process() {
            write!(f, "{}, ", process.name)?;
        }
        write!(f, "pid {pid}, uid {uid})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn connections_of_one_process_have_one_key() {
        let [one, other] = [(); 2].map(|()| UnixStream::pair().unwrap());
        let [one, other] = [Peer::from_socket(&one.0, 1), Peer::from_socket(&other.0, 2)];
        assert_eq!(one.process_key(), other.process_key());
        assert_eq!(one.pid, std::process::id().cast_signed());
    }

    #[test]
    fn key_without_pidfd_is_pid_or_user() {
        let no_socket = tempfile::tempfile().unwrap();
        let key = |process, user| ProcessKey::from_socket(&no_socket, process, user);
        assert_eq!(key(7, 107), ProcessKey::Pid(7));
        assert_eq!(key(0, 107), ProcessKey::User(107));
    }
}
