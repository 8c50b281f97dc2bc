// SPDX-License-Identifier: MIT OR Apache-2.0

//! The socket that clients connect to: bound here, or passed by a service manager.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cli_messages::error::system_error;
use linux_util::ancillary;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, connect, listen,
    socket_with,
};
use thiserror::Error;

use crate::process::created_file::{CreatedFile, DirLock, FileKind};
use crate::process::process_state::{ProcessState, exiting_listener, process_state};
use crate::trace::argument::ObjectId;
use crate::trace::trace;

/// Maximum number of connections that wait to be accepted. The kernel lowers it to
/// `net.core.somaxconn`, which is 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// Timeout of a blocking read from a client. The next request of a busy guest arrives within it.
const CLIENT_RECV_TIMEOUT: Duration = Duration::from_millis(10);

/// Bytes of replies that the kernel buffers for a client that does not read (`SO_SNDBUF`, which the
/// kernel doubles for its own overhead). The longest reply fits, so the helper never waits for an
/// ordinary client.
const SEND_BUFFER: usize = 16 * 1024;

/// Maximum number of attempts to find the process that listens on a socket, for processes that exit
/// between the connection and the lookup.
const MAX_PROBES: u32 = 3;

/// Delay between these attempts.
const PROBE_DELAY: Duration = Duration::from_millis(10);

/// Error of a [`Listener`].
#[derive(Debug, Error)]
pub enum ListenError {
    /// The path does not fit into a socket address.
    #[error("socket path '{0}' is too long (more than 108 bytes): choose another path with -k")]
    PathTooLong(PathBuf),
    /// A process listens on the socket.
    #[error("socket '{0}' is in use by another process: stop it, or choose another path with -k")]
    InUse(PathBuf),
    /// The file at the path is neither a socket nor a symbolic link.
    #[error("'{0}' exists and is not a socket: remove it, or choose another path with -k")]
    NotASocket(PathBuf),
    /// The connection that would show whether a process listens has failed.
    #[error(
        "cannot determine whether socket '{0}' is in use: {cause}; remove it, or choose another \
         path with -k",
        cause = system_error(.1)
    )]
    Probe(PathBuf, io::Error),
    /// A socket on which no process listens cannot be removed.
    #[error(
        "cannot replace stale socket '{0}': {cause}; remove it, or choose another path with -k",
        cause = system_error(.1)
    )]
    Replace(PathBuf, io::Error),
    /// The socket cannot be created.
    #[error(
        "cannot bind socket '{0}': {cause}; check its directory, or choose another path with -k",
        cause = system_error(.1)
    )]
    Bind(PathBuf, io::Error),
    /// The socket of a service manager cannot be configured.
    #[error(
        "cannot use the inherited socket: {}; check the socket unit, or use -k",
        system_error(.0)
    )]
    Inherited(io::Error),
}

/// Nonblocking listening socket.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// Creates a socket at `path`, with mode 0777 less the umask. The caller must remove the
    /// returned file in the end.
    ///
    /// Replaces a socket on which no process listens, and a symbolic link unless it leads to a
    /// socket on which a process listens.
    ///
    /// # Errors
    ///
    /// Returns [`ListenError`] if a process listens on the socket, if the path is another kind of
    /// file, or if a system call fails.
    pub fn bind(path: &Path) -> Result<(Self, CreatedFile), ListenError> {
        let failed = |error: Errno| ListenError::Bind(path.into(), error.into());
        let address =
            SocketAddrUnix::new(path).map_err(|_| ListenError::PathTooLong(path.into()))?;
        // Without the lock, two instances that start at once could each take the other's socket for
        // a stale one.
        let _lock = DirLock::acquire_parent(path);
        remove_stale_socket(path, &address)?;
        let socket = new_socket().map_err(failed)?;
        bind(&socket, &address).map_err(failed)?;
        // Immediately, because libvirt and KubeVirt let clients connect as soon as the path exists.
        listen(&socket, BACKLOG).map_err(failed)?;
        trace!(socket_listen(BACKLOG));
        let metadata =
            fs::symlink_metadata(path).map_err(|error| ListenError::Bind(path.into(), error))?;
        let listener = Self(socket.into());
        trace!(qio_channel_socket_listen_complete(
            listener.address(),
            listener.0.as_raw_fd(),
        ));
        let file = CreatedFile::new(FileKind::Socket, path, &metadata);
        Ok((listener, file))
    }

    /// Uses the listening socket of a service manager. Its file stays.
    ///
    /// # Errors
    ///
    /// Returns [`ListenError::Inherited`] if an option of the socket cannot be set.
    pub fn inherit(socket: OwnedFd) -> Result<Self, ListenError> {
        let set = || fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK);
        set().map_err(|error: Errno| ListenError::Inherited(error.into()))?;
        // A unit can enable credentials (PassCredentials=), which would take the space in ancillary
        // data that the device's descriptor needs.
        ancillary::disable_ancillary_messages(&socket).map_err(ListenError::Inherited)?;
        Ok(Self(socket.into()))
    }

    /// Returns the path of the socket, or its abstract name after `@`; empty without both.
    pub(crate) fn name(&self) -> String {
        // For a path that fills the address, rustix 1.1.6 panics and nix 0.31.3 exceeds its buffer.
        let Ok(address) = self.0.local_addr() else {
            return String::new();
        };
        match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
            (None, None) => String::new(),
        }
    }

    /// Returns the identifier of the socket in trace events.
    pub(crate) fn address(&self) -> ObjectId {
        ObjectId(u64::try_from(self.0.as_raw_fd()).unwrap_or_default())
    }

    /// Accepts a connection. A blocking read from it times out after 10 ms.
    ///
    /// # Errors
    ///
    /// Returns the error of accept(2), which is `WouldBlock` if no connection waits.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let (client, _) = acceptfrom_with(&self.0, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&client, Timeout::Recv, Some(CLIENT_RECV_TIMEOUT))?;
        set_socket_send_buffer_size(&client, SEND_BUFFER)?;
        Ok(client)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Removes `path` if it is a socket on which no process listens, or a symbolic link.
///
/// A process that was killed but cannot exit serves no client, but its socket still accepts
/// connections, so it is removed too.
fn remove_stale_socket(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let file_type = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::Bind(path.into(), error)),
    };
    if !file_type.is_socket() && !file_type.is_symlink() {
        return Err(ListenError::NotASocket(path.into()));
    }
    let proc = Path::new("/proc");
    for _ in 0..MAX_PROBES {
        let pid = match probe(address) {
            Ok(pid) => pid,
            // ENOENT: a dangling symbolic link. The target of a link is never removed.
            Err(Errno::CONNREFUSED | Errno::NOENT) => return remove(path),
            // The backlog is full. Clients can fill it after the process was killed.
            Err(Errno::AGAIN) => match exiting_listener(proc, path) {
                Some(pid) => return replace(path, pid),
                None => break,
            },
            Err(error) => return Err(ListenError::Probe(path.into(), error.into())),
        };
        match process_state(proc, pid) {
            ProcessState::Alive => break,
            ProcessState::Exiting => return replace(path, pid),
            ProcessState::Gone => thread::sleep(PROBE_DELAY),
        }
    }
    Err(ListenError::InUse(path.into()))
}

/// Removes the socket of a process that was killed but cannot exit.
fn replace(path: &Path, pid: i32) -> Result<(), ListenError> {
    let socket = path.display();
    log::warn!(
        "socket '{socket}' replaced: process {pid}, which has it open, was killed but cannot exit"
    );
    remove(path)
}

fn remove(path: &Path) -> Result<(), ListenError> {
    fs::remove_file(path).map_err(|error| ListenError::Replace(path.into(), error))
}

/// Connects to `address` and returns the process that listens there; 0 if it is in another PID
/// namespace.
fn probe(address: &SocketAddrUnix) -> rustix::io::Result<i32> {
    let socket = new_socket()?;
    connect(&socket, address)?;
    let listener = getsockopt(&socket, sockopt::PeerCredentials);
    Ok(listener.map_or(0, |listener| listener.pid()))
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    fn socket_path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        (dir, path)
    }

    #[test]
    fn stale_socket_is_replaced() {
        let (dir, path) = socket_path();
        drop(UnixListener::bind(&path).unwrap());
        let (listener, file) = Listener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        file.remove();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn live_socket_stays() {
        let (_dir, path) = socket_path();
        let (first, _) = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
        UnixStream::connect(&path).unwrap();
        first.accept().unwrap();
    }

    #[test]
    fn live_socket_with_full_backlog_stays() {
        let (_dir, path) = socket_path();
        let busy = new_socket().unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        bind(&busy, &address).unwrap();
        listen(&busy, 0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = new_socket().unwrap();
            match connect(&client, &address) {
                Ok(()) => waiting.push(client),
                Err(error) => break assert_eq!(error, Errno::AGAIN),
            }
        }
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
    }

    #[test]
    fn regular_file_stays() {
        let (_dir, path) = socket_path();
        fs::write(&path, "content").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(ListenError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    }

    #[test]
    fn symlink_is_replaced_unless_its_target_is_live() {
        let (dir, path) = socket_path();
        let target = dir.path().join("target");
        fs::write(&target, "content").unwrap();
        symlink(&target, &path).unwrap();
        Listener::bind(&path).unwrap().1.remove();
        assert_eq!(fs::read_to_string(&target).unwrap(), "content");

        fs::remove_file(&target).unwrap();
        let _live = UnixListener::bind(&target).unwrap();
        symlink(&target, &path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
    }

    #[test]
    fn replaced_socket_stays() {
        let (_dir, path) = socket_path();
        let (_first, file) = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        file.remove();
        UnixStream::connect(&path).unwrap();
        second.accept().unwrap();
    }
}
