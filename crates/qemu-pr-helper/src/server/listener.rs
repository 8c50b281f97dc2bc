//! The listening socket: created by the helper, or passed by a service manager.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

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

/// Maximum number of clients that wait to be accepted. The kernel lowers it to
/// `net.core.somaxconn`, which is 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// Timeout of a blocking read from a client. The next request of a sequence arrives earlier.
const CLIENT_RECV_TIMEOUT: Duration = Duration::from_millis(10);

/// Size in bytes of the buffer for replies that a client has not read (`SO_SNDBUF`; the kernel
/// doubles it for its own overhead). The longest reply fits, so that an ordinary client never makes
/// the helper wait.
const SEND_BUFFER_SIZE: usize = 16 * 1024;

/// Maximum number of probes of a socket. It is probed again if its process ended between the probe
/// and the check of the process.
const MAX_PROBES: u32 = 3;

/// Delay between two probes.
const PROBE_DELAY: Duration = Duration::from_millis(10);

/// Error of the listening socket.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The path does not fit in a socket address.
    #[error("socket path '{}' is longer than 107 bytes: choose another path with -k", .0.display())]
    PathTooLong(PathBuf),
    /// Another process serves the socket.
    #[error(
        "socket '{}' is in use by another process: stop it, or choose another path with -k",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file is not a socket.
    #[error(
        "'{}' exists and is not a socket: remove it, or choose another path with -k",
        .0.display()
    )]
    NotASocket(PathBuf),
    /// The probe whether another process serves the socket failed.
    #[error("cannot determine whether socket '{}' is in use", .0.display())]
    Probe(PathBuf, #[source] io::Error),
    /// The socket of an earlier helper cannot be removed.
    #[error("cannot replace stale socket '{}'", .0.display())]
    Replace(PathBuf, #[source] io::Error),
    /// The socket cannot be created.
    #[error("cannot bind socket '{}'", .0.display())]
    Bind(PathBuf, #[source] io::Error),
    /// The socket of a service manager cannot be used.
    #[error("cannot use the inherited socket")]
    Inherited(#[source] io::Error),
}

/// A listening socket, from which accepting does not block.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// File of a socket that [`Listener::bind`] has created. It is removed on drop, unless the broker
/// has to remove it.
#[derive(Debug)]
pub struct SocketFile {
    file: CreatedFile,
    is_handed_over: bool,
}

impl Listener {
    /// Creates a socket at `path`, with mode 0777 as the umask allows.
    ///
    /// Replaces the socket of a helper that has ended. Leaves alone a socket that a process serves,
    /// and any other file.
    ///
    /// # Errors
    ///
    /// Returns a [`ListenError`] other than [`ListenError::Inherited`].
    pub fn bind(path: &Path) -> Result<(Self, SocketFile), ListenError> {
        let failed = |error: Errno| ListenError::Bind(path.into(), error.into());
        let address =
            SocketAddrUnix::new(path).map_err(|_| ListenError::PathTooLong(path.into()))?;
        // Locked, so that two helpers that start at once do not take each other's socket for stale.
        let _lock = DirLock::acquire_parent(path);
        match fs::symlink_metadata(path) {
            Ok(found) => remove_stale_socket(path, &address, &found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ListenError::Bind(path.into(), error)),
        }
        let socket = new_socket().map_err(failed)?;
        bind(&socket, &address).map_err(failed)?;
        // Immediately, because libvirt and KubeVirt start clients as soon as the path exists.
        listen(&socket, BACKLOG).map_err(failed)?;
        trace!(socket_listen(BACKLOG));
        let created =
            fs::symlink_metadata(path).map_err(|error| ListenError::Bind(path.into(), error))?;
        let file = SocketFile {
            file: CreatedFile::new(Kind::Socket, path, &created),
            is_handed_over: false,
        };
        let listener = Self(socket);
        trace!(qio_channel_socket_listen_complete(
            listener.address(),
            listener.0.as_raw_fd(),
        ));
        let file = CreatedFile::new(FileKind::Socket, path, &metadata);
        Ok((listener, file))
    }

    /// Uses a listening socket that a service manager passed. Its file is not removed.
    ///
    /// # Errors
    ///
    /// Returns [`ListenError::Inherited`] if the socket's flags or options cannot be set.
    pub fn inherit(socket: OwnedFd) -> Result<Self, ListenError> {
        let set = || fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK);
        set().map_err(|error: Errno| ListenError::Inherited(error.into()))?;
        // A service manager can have enabled credentials (PassCredentials=). They would take the
        // space in the control buffer that is meant for the device's descriptor.
        ancillary::disable_all(&socket).map_err(ListenError::Inherited)?;
        Ok(Self(socket))
    }

    /// Returns the name of the listener in trace events.
    pub(crate) fn address(&self) -> Address {
        Address(u64::try_from(self.0.as_raw_fd()).unwrap_or_default())
    }

    /// Accepts the next connection. A blocking read from it times out after
    /// [`CLIENT_RECV_TIMEOUT`]. Returns `WouldBlock` if no client waits.
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        let (client, _) = acceptfrom_with(&self.0, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&client, Timeout::Recv, Some(CLIENT_RECV_TIMEOUT))?;
        set_socket_send_buffer_size(&client, SEND_BUFFER_SIZE)?;
        Ok(client)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl SocketFile {
    pub(crate) const fn file(&self) -> &CreatedFile {
        &self.file
    }

    /// Leaves the removal to the broker.
    pub(crate) const fn hand_over(&mut self) {
        self.is_handed_over = true;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_handed_over {
            self.file.remove();
        }
    }
}

/// Removes `found` from `path` if it is a socket, or a symbolic link to a file, that no process
/// serves.
///
/// A process that was killed but cannot exit serves no client, although clients can still connect
/// to its socket.
fn remove_stale_socket(
    path: &Path,
    address: &SocketAddrUnix,
    found: &Metadata,
) -> Result<(), ListenError> {
    if !found.file_type().is_socket() && !found.file_type().is_symlink() {
        return Err(ListenError::NotASocket(path.into()));
    }
    let proc = Path::new("/proc");
    for _ in 0..MAX_PROBES {
        let pid = match probe(address) {
            Ok(pid) => pid,
            // ENOENT: a dangling link. Only the link is removed, never its target.
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

/// Connects to `address`. Returns the ID of the listening process; 0 if it is in another PID
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
    use std::os::unix::net::{UnixListener, UnixStream};

    fn temp_path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        (dir, path)
    }

    fn assert_in_use(path: &Path) {
        assert!(matches!(Listener::bind(path), Err(ListenError::InUse(_))));
    }

    #[test]
    fn stale_socket_is_replaced() {
        let (dir, path) = temp_path();
        drop(UnixListener::bind(&path).unwrap());
        let (listener, file) = Listener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn live_socket_is_kept() {
        let (_dir, path) = temp_path();
        let (first, _file) = Listener::bind(&path).unwrap();
        assert_in_use(&path);
        UnixStream::connect(&path).unwrap();
        first.accept().unwrap();
    }

    #[test]
    fn live_socket_with_a_full_backlog_is_kept() {
        let (_dir, path) = temp_path();
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
        assert_in_use(&path);
    }

    #[test]
    fn regular_file_is_kept() {
        let (_dir, path) = temp_path();
        fs::write(&path, "content").unwrap();
        let error = Listener::bind(&path).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket(_)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    }

    #[test]
    fn link_is_replaced_unless_to_a_live_socket() {
        let (dir, path) = temp_path();
        let target = dir.path().join("target");
        fs::write(&target, "content").unwrap();
        symlink(&target, &path).unwrap();
        drop(Listener::bind(&path).unwrap());
        assert_eq!(fs::read_to_string(&target).unwrap(), "content");

        fs::remove_file(&target).unwrap();
        let _live = UnixListener::bind(&target).unwrap();
        symlink(&target, &path).unwrap();
        assert_in_use(&path);
    }

    #[test]
    fn socket_that_replaced_this_one_is_kept() {
        let (_dir, path) = temp_path();
        let (_first, file) = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        file.remove();
        UnixStream::connect(&path).unwrap();
        second.accept().unwrap();
    }
}
