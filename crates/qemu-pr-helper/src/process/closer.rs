//! Closes rejected connections without blocking, in processes that end.
//!
//! What a client has sent over a connection is closed with the connection, and closing it can block
//! for as long as the client likes. An accepted connection holds a permit until then; a rejected one
//! has none, so nothing would limit the threads that are blocked. The helper therefore hands rejected
//! connections to the broker. The broker passes them on to a process that ends, because the kernel
//! does not wait for lingering sockets in a process that ends. What blocks such a process too, such
//! as a file with data that a FUSE server does not take, blocks that process alone; the broker starts
//! 64 at most.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use linux_util::fork;
use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use rustix::event::Timespec;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::Pid;

/// How long the helper waits for a broker that is behind.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of connections that one process closes.
const MAX_BATCH: usize = 64;

/// How long the broker waits for more connections before it closes those that it has: starting a
/// process for each takes long.
const BATCH_DELAY: Duration = Duration::from_millis(5);

/// How long the broker waits before it tries again to close connections.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The helper's end: takes connections that are to be closed.
#[derive(Debug)]
pub struct Closer(Mutex<OwnedFd>);

/// The broker's end.
#[derive(Debug)]
pub struct CloserQueue {
    socket: OwnedFd,
    /// Connections that the helper may still have open. Its descriptor must not be the last one.
    shared: Vec<OwnedFd>,
    /// Connections that the helper has closed.
    batch: Vec<OwnedFd>,
    /// When to close the batch; none if it is empty.
    due: Option<Instant>,
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
    Ok((Closer(Mutex::new(here)), there))
}

impl Closer {
    /// Hands over a connection, and closes it here, which does not block, because the broker does
    /// not close its own descriptor before it is told that this one is closed.
    ///
    /// # Errors
    ///
    /// Returns the connection, and the errno of sendmsg(2): `WouldBlock` if the broker is behind for
    /// 100 ms, `EPIPE` if it has ended, `ETOOMANYREFS` if processes of the helper's user have more
    /// descriptors on their way than the helper may have open.
    pub fn close(&self, connection: OwnedFd) -> Result<(), (OwnedFd, io::Error)> {
        // One at a time, so that the second message is about the first one.
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = fd_passing::send(socket.as_fd(), &[0], connection.as_fd()) {
            return Err((connection, error));
        }
        drop(connection);
        // If this fails, the next one tells the broker.
        let _ = send(&*socket, &[0], SendFlags::NOSIGNAL);
        drop(socket);
        Ok(())
    }
}

impl CloserQueue {
    /// Creates the broker's end from the socket that [`pair`] returned.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            shared: Vec::new(),
            batch: Vec::new(),
            due: None,
        }
    }

    /// Returns the time until the batch is to be closed; `None` if it is empty.
    #[must_use]
    pub fn time_left(&self) -> Option<Timespec> {
        let left = self.due?.saturating_duration_since(Instant::now());
        left.try_into().ok()
    }

    /// Returns whether the batch is to be closed now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Has the batch closed later, because no process could be started.
    pub fn retry_later(&mut self) {
        self.due = Some(Instant::now() + RETRY_DELAY);
    }

    /// Returns whether there is no room for another connection before some are closed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.shared.len().saturating_add(self.batch.len()) >= MAX_BATCH
    }

    /// Receives connections that have been handed over, as long as there is room.
    pub fn receive(&mut self) {
        while !self.is_full() {
            let socket = self.socket.as_fd();
            match fd_passing::receive(socket, &mut [0], ReceiveMode::NeverBlock) {
                Ok((1, ReceivedFds::One(connection))) => self.shared.push(connection),
                Ok((1, ReceivedFds::None)) => {
                    self.batch.append(&mut self.shared);
                    self.due.get_or_insert_with(|| Instant::now() + BATCH_DELAY);
                }
                // The kernel could not pass the descriptor.
                Ok((1, _)) => {}
                // There is nothing more, or the helper has ended.
                Ok(_) | Err(_) => break,
            }
        }
    }

    /// Closes the connections that the helper has closed, in a process that ends. Returns the process, which
    /// is a child of this one. The connections stay in the queue if it cannot be started.
    ///
    /// # Errors
    ///
    /// Returns why no process can be started.
    pub fn close_batch(&mut self) -> io::Result<Pid> {
        let holder = fork::hold(&self.batch)?;
        self.batch.clear();
        self.due = None;
        Ok(holder.release())
    }
}

impl AsFd for CloserQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
