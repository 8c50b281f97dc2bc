//! The peer of a connection: which process it is.

use std::fmt;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::fs::{AtFlags, StatxFlags, fstatfs, statx};

/// `PIDFS_MAGIC` (`include/uapi/linux/magic.h`): the file system of process descriptors, since
/// Linux 6.9. Before that they all have the same inode number.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// The peer of a connection. `Display` is its name in log and trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Counts connections, from 1.
    number: u64,
    /// The process that connected; 0 if it is in a namespace that this process cannot see.
    process: i32,
    user: u32,
    key: ProcessKey,
}

/// Identity of the process that connected, by which connections are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessKey {
    /// Inode number of its process descriptor, which no other process of the same boot has. It
    /// exists since Linux 6.9, and for processes of other PID namespaces too.
    Pidfd(u64),
    /// Process id, which another process can have later.
    Pid(i32),
    /// User id of a process that cannot be told apart from others of its user: it is in a PID
    /// namespace that this process cannot see, on a kernel older than 6.9.
    User(u32),
}

impl ProcessKey {
    /// Returns the key of the process that connected on `socket`, whose process id and user id are
    /// `process` and `user`.
    fn from_socket(socket: &impl AsFd, process: i32, user: u32) -> Self {
        match (pidfd_inode(socket), process) {
            (Some(inode), _) => Self::Pidfd(inode),
            (None, 1..) => Self::Pid(process),
            (None, _) => Self::User(user),
        }
    }
}

/// Returns the inode number of the peer's process descriptor, where the kernel has unique ones.
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
    /// Reads from the kernel which process has connected on `socket`, as the `number`th.
    #[must_use]
    pub fn from_socket(socket: &impl AsFd, number: u64) -> Self {
        // Not with rustix, to whose type a process that cannot be seen, number 0, is no value.
        let (process, user) = match getsockopt(socket, sockopt::PeerCredentials) {
            Ok(peer) => (peer.pid(), peer.uid()),
            // The kernel stores them when a client connects; it has no way to fail on our sockets.
            Err(_) => (0, u32::MAX),
        };
        Self {
            number,
            process,
            user,
            key: ProcessKey::from_socket(socket, process, user),
        }
    }

    /// Returns the number of the connection, counted from 1.
    #[must_use]
    pub const fn connection_id(&self) -> u64 {
        self.number
    }

    /// Returns the user that connected.
    #[must_use]
    pub const fn user(&self) -> u32 {
        self.user
    }

    /// Returns the process that connected, 0 if this process cannot see it.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.process
    }

    /// Returns the identity of the process that connected. Connections are counted by it, and
    /// warnings about the client are limited by it.
    #[must_use]
    pub const fn process_key(&self) -> ProcessKey {
        self.key
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            process,
            user,
            ..
        } = self;
        write!(f, "client {number} (pid {process}, uid {user})")
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
        assert_eq!(one.pid(), std::process::id().cast_signed());
    }

    #[test]
    fn key_without_pidfd_is_pid_or_user() {
        let no_socket = tempfile::tempfile().unwrap();
        let key = |process, user| ProcessKey::from_socket(&no_socket, process, user);
        assert_eq!(key(7, 107), ProcessKey::Pid(7));
        assert_eq!(key(0, 107), ProcessKey::User(107));
    }
}
