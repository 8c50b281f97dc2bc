//! The socket that clients connect to: made here, or handed over by a service manager.

use std::fs::{self, Metadata};
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

use crate::process::created_file::{CreatedFile, Kind};
use crate::process::dir_lock::DirLock;
use crate::process::exiting::{Holder, exiting_listener, holder};
use crate::trace::argument::ObjectId;
use crate::trace::trace;

/// How many clients can have connected and not be accepted yet. The kernel lowers it to
/// `net.core.somaxconn`, which is 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// How long a read from a client waits that may wait: what a guest asks in a row comes within that.
const PATIENCE: Duration = Duration::from_millis(10);

/// Bytes of replies that the kernel keeps for a client that does not read them (`SO_SNDBUF`; the
/// kernel doubles it for its own overhead). One reply of the greatest length fits, so that an
/// ordinary client never makes the helper wait.
const SEND_BUFFER: usize = 16 * 1024;

/// How often a socket is probed whose process has ended between a connection and the look at it, and
/// the pause between two probes.
const MAX_PROBES: u32 = 3;
const PROBE_DELAY: Duration = Duration::from_millis(10);

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The path does not fit into a socket address.
    #[error("socket path '{path}' is too long, 107 bytes are the most", path = .0.display())]
    PathTooLong(PathBuf),
    /// A helper, or something else, serves there.
    #[error(
        "socket '{path}' is in use by another process: stop it, or choose another path with -k",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// What is there is no socket, and may be somebody's file.
    #[error("'{path}' exists and is not a socket: remove it, or choose another path with -k",
        path = .0.display())]
    NotASocket(PathBuf),
    /// It cannot be found out whether somebody serves there.
    #[error("cannot tell whether socket '{path}' is in use", path = .0.display())]
    Probe(PathBuf, #[source] io::Error),
    /// What an instance that is gone has left cannot be removed.
    #[error("cannot replace stale socket '{path}'", path = .0.display())]
    Replace(PathBuf, #[source] io::Error),
    /// The socket cannot be made.
    #[error("cannot bind socket '{path}'", path = .0.display())]
    Bind(PathBuf, #[source] io::Error),
    /// A socket that was handed over cannot be used.
    #[error("cannot use the socket that was passed")]
    Inherited(#[source] io::Error),
}

/// A listening socket. Accepting from it does not block.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

/// File of a socket that [`Listener::bind`] has created. Removed on drop, unless the broker is to
/// remove it.
#[derive(Debug)]
pub struct SocketFile {
    file: CreatedFile,
    is_handed_over: bool,
}

impl Listener {
    /// Makes a socket at `path`, with the mode that the umask leaves of 0777.
    ///
    /// The socket of an instance that is gone is replaced; one that somebody serves is left alone, and
    /// so is any other file.
    ///
    /// # Errors
    ///
    /// [`ListenError`], with nothing changed.
    pub fn bind(path: &Path) -> Result<(Self, SocketFile), ListenError> {
        let failed = |error: Errno| ListenError::Bind(path.into(), error.into());
        let address =
            SocketAddrUnix::new(path).map_err(|_| ListenError::PathTooLong(path.into()))?;
        // Two instances that start at once must not each take the other's socket for a stale one.
        let _lock = DirLock::acquire_parent(path);
        if let Some(found) = find(path)? {
            make_way(path, &address, &found)?;
        }
        let socket = new_socket().map_err(failed)?;
        bind(&socket, &address).map_err(failed)?;
        // At once: libvirt and KubeVirt let clients loose as soon as the path exists.
        listen(&socket, BACKLOG).map_err(failed)?;
        trace!(socket_listen(BACKLOG));
        let made =
            fs::symlink_metadata(path).map_err(|error| ListenError::Bind(path.into(), error))?;
        let file = SocketFile {
            file: CreatedFile::new(Kind::Socket, path, &made),
            is_handed_over: false,
        };
        let listener = Self { socket };
        trace!(qio_channel_socket_listen_complete(
            listener.address(),
            listener.socket.as_raw_fd(),
        ));
        Ok((listener, file))
    }

    /// Uses a listening socket that a service manager passed. It stays where it is at the end.
    ///
    /// # Errors
    ///
    /// [`ListenError::Inherited`].
    pub fn inherit(socket: OwnedFd) -> Result<Self, ListenError> {
        let set = || fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK);
        set().map_err(|error: Errno| ListenError::Inherited(error.into()))?;
        // A service manager may have asked for credentials (PassCredentials=). They would take the
        // room that is meant for the device's descriptor.
        ancillary::disable_all(&socket).map_err(ListenError::Inherited)?;
        Ok(Self { socket })
    }

    /// What events call it.
    pub(crate) fn address(&self) -> ObjectId {
        ObjectId(u64::try_from(self.socket.as_raw_fd()).unwrap_or_default())
    }

    /// The next client that has connected. A read from it, if it is one that waits, waits a moment only.
    ///
    /// # Errors
    ///
    /// That of accept(2): `WouldBlock` if there is none.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let (client, _) = acceptfrom_with(&self.socket, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&client, Timeout::Recv, Some(PATIENCE))?;
        set_socket_send_buffer_size(&client, SEND_BUFFER)?;
        Ok(client)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SocketFile {
    /// Returns the file.
    #[must_use]
    pub const fn file(&self) -> &CreatedFile {
        &self.file
    }

    /// Leaves the removal to the broker.
    pub const fn hand_over(&mut self) {
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

fn find(path: &Path) -> Result<Option<Metadata>, ListenError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ListenError::Bind(path.into(), error)),
    }
}

/// Removes `found` from `path` if it is a socket that no process serves, or a link.
///
/// A process that was killed and cannot end serves no client, but its socket still accepts connections.
fn make_way(path: &Path, address: &SocketAddrUnix, found: &Metadata) -> Result<(), ListenError> {
    if !found.file_type().is_socket() && !found.file_type().is_symlink() {
        return Err(ListenError::NotASocket(path.into()));
    }
    let proc = Path::new("/proc");
    for _ in 0..MAX_PROBES {
        let pid = match probe(address) {
            Ok(pid) => pid,
            // The second: a link to nothing. Whatever a link leads to stays, only the link goes.
            Err(Errno::CONNREFUSED | Errno::NOENT) => return remove(path),
            // The backlog is full, as clients can make it after the process was killed.
            Err(Errno::AGAIN) => match exiting_listener(proc, path) {
                Some(pid) => return replace(path, pid),
                None => break,
            },
            Err(error) => return Err(ListenError::Probe(path.into(), error.into())),
        };
        match holder(proc, pid) {
            Holder::Alive => break,
            Holder::Exiting => return replace(path, pid),
            Holder::Gone => thread::sleep(PROBE_DELAY),
        }
    }
    Err(ListenError::InUse(path.into()))
}

/// Removes the socket of a process that was killed and cannot end.
fn replace(path: &Path, pid: i32) -> Result<(), ListenError> {
    let socket = path.display();
    log::warn!(
        "socket '{socket}' replaced: process {pid}, which has it open, was killed and cannot end"
    );
    remove(path)
}

/// Connects to `address`, and returns the process that listens there; 0 if that is in another PID
/// namespace.
fn probe(address: &SocketAddrUnix) -> rustix::io::Result<i32> {
    let socket = new_socket()?;
    connect(&socket, address)?;
    let listener = getsockopt(&socket, sockopt::PeerCredentials);
    Ok(listener.map_or(0, |listener| listener.pid()))
}

fn remove(path: &Path) -> Result<(), ListenError> {
    fs::remove_file(path).map_err(|error| ListenError::Replace(path.into(), error))
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

    fn path_in(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("s")
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(&folder);
        drop(UnixListener::bind(&path).unwrap());
        let (listener, file) = Listener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_live_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(&folder);
        let (first, _file) = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
        UnixStream::connect(&path).unwrap();
        first.accept().unwrap();
    }

    #[test]
    fn a_live_socket_with_a_full_backlog_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(&folder);
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
    fn a_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(&folder);
        fs::write(&path, "somebody's").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(ListenError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[test]
    fn a_link_is_replaced_unless_it_leads_to_a_live_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(&folder);
        let target = folder.path().join("target");
        fs::write(&target, "somebody's").unwrap();
        symlink(&target, &path).unwrap();
        drop(Listener::bind(&path).unwrap());
        assert_eq!(fs::read_to_string(&target).unwrap(), "somebody's");

        fs::remove_file(&target).unwrap();
        let _live = UnixListener::bind(&target).unwrap();
        symlink(&target, &path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
    }

    #[test]
    fn a_socket_that_has_taken_our_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(&folder);
        let (_first, file) = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        second.accept().unwrap();
    }
}
