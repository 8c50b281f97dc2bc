//! Closes rejected connections without blocking, in processes that end.
//!
//! What a client has sent over a connection is closed with the connection, and closing it can block
//! for as long as the client likes. An accepted connection holds a permit until then; a rejected one
//! has none, so nothing would limit the threads that are blocked. The helper therefore hands rejected
//! connections to the broker. The broker passes them on to a process that ends, because the kernel
//! does not wait for lingering sockets in a process that ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use linux_sys::fork;
use pr_socket::descriptors::{self, Descriptors, ReceiveMode};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;

/// How long the helper waits for a broker that is behind.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of connections that one process closes.
const MAX_BATCH: usize = 64;

/// The helper's end: takes connections that are to be closed.
#[derive(Debug)]
pub struct Closer(OwnedFd);

/// The broker's end.
#[derive(Debug)]
pub struct CloserQueue {
    socket: OwnedFd,
    /// Connections that were received and not closed yet.
    batch: Vec<OwnedFd>,
}

/// Creates both ends: the helper's, and the socket of a [`CloserQueue`].
///
/// # Errors
///
/// Returns the errno of socketpair(2) or setsockopt(2).
pub fn pair() -> io::Result<(Closer, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    set_socket_timeout(&here, Timeout::Send, Some(SEND_TIMEOUT))?;
    Ok((Closer(here), there))
}

impl Closer {
    /// Hands over a connection. The caller closes its own descriptor afterwards, which does not block
    /// then, because it is not the last one.
    ///
    /// # Errors
    ///
    /// Returns the errno of sendmsg(2): `WouldBlock` if the broker is behind for 100 ms, `EPIPE` if
    /// it has ended, `ETOOMANYREFS` if the connection holds sockets that hold sockets, more than four
    /// levels deep (Linux before 6.10).
    pub fn close(&self, connection: impl AsFd) -> io::Result<()> {
        descriptors::send(self.0.as_fd(), &[0], connection.as_fd())
    }
}

impl CloserQueue {
    /// Creates the broker's end from the socket that [`pair`] returned.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            batch: Vec::new(),
        }
    }

    /// Returns whether no connection was received that is not closed yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Returns whether there is no room for another connection before some are closed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.batch.len() >= MAX_BATCH
    }

    /// Receives connections that have been handed over, as long as there is room.
    pub fn receive(&mut self) {
        while !self.is_full() {
            let socket = self.socket.as_fd();
            match descriptors::receive(socket, &mut [0], ReceiveMode::NeverBlock) {
                Ok((1, Descriptors::One(connection))) => self.batch.push(connection),
                // The kernel had no descriptor to give, or the helper has ended.
                Ok(_) | Err(_) => break,
            }
        }
    }

    /// Closes the connections that were received, in a process that ends. Returns the process, which
    /// is a child of this one. The connections stay in the queue if it cannot be started.
    ///
    /// # Errors
    ///
    /// Returns why no process can be started.
    pub fn close_batch(&mut self) -> io::Result<Pid> {
        let holder = fork::hold(&self.batch)?;
        self.batch.clear();
        Ok(holder.release())
    }
}

impl AsFd for CloserQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
