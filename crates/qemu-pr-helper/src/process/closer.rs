// SPDX-License-Identifier: MIT OR Apache-2.0

//! Closes rejected connections without blocking, by handing them to processes that exit.
//!
//! Closing a connection also closes the descriptors that the client has sent over it, which can
//! block without limit. An accepted connection holds a permit until it is closed. A rejected one
//! does not, so nothing would limit the number of blocked threads. The helper therefore hands
//! rejected connections to the broker, and the broker closes them by forking a process that holds
//! them and exits, because the kernel does not wait for lingering sockets at the exit of a process.
//! A descriptor that blocks even then, such as a file with unwritten data on a FUSE file system,
//! blocks that process only. The broker runs at most 64 of these processes.

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

/// Time limit for handing a connection to the broker.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// Maximum number of connections in the queue. One process closes them all.
const MAX_BATCH: usize = 64;

/// Time that the broker collects connections before it forks, because a fork for each is slow.
const BATCH_DELAY: Duration = Duration::from_millis(5);

/// Delay after which the broker retries if it could not fork.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The helper's end.
#[derive(Debug)]
pub struct Closer(Mutex<OwnedFd>);

/// The broker's end.
#[derive(Debug)]
pub(crate) struct CloserQueue {
    socket: OwnedFd,
    /// Connections that the helper can still have open. The helper must not close the last
    /// descriptor of a connection, so the queue keeps one.
    shared: Vec<OwnedFd>,
    /// Connections that the helper has closed.
    batch: Vec<OwnedFd>,
    /// Time to close the batch; `None` if it is empty.
    due: Option<Instant>,
}

/// Creates both ends: the helper's, and the socket of a [`CloserQueue`].
pub(crate) fn pair() -> io::Result<(Closer, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    set_socket_timeout(&here, Timeout::Send, Some(SEND_TIMEOUT))?;
    Ok((Closer(Mutex::new(here)), there))
}

impl Closer {
    /// Hands a connection to the broker and closes it here. Closing does not block, because the
    /// broker keeps its own descriptor until it is notified that this one is closed.
    ///
    /// # Errors
    ///
    /// Returns the connection and the error of sendmsg(2): `WouldBlock` if the broker does not read
    /// for 100 ms, `EPIPE` if it has exited, `ETOOMANYREFS` if processes of the helper's user have
    /// more descriptors in flight than `RLIMIT_NOFILE` allows.
    pub(crate) fn close(&self, connection: OwnedFd) -> Result<(), (OwnedFd, io::Error)> {
        // The lock keeps the two messages of a connection together.
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = fd_passing::send(socket.as_fd(), &[0], connection.as_fd()) {
            return Err((connection, error));
        }
        drop(connection);
        // If this message is lost, the next one covers this connection too.
        let _ = send(&*socket, &[0], SendFlags::NOSIGNAL);
        drop(socket);
        Ok(())
    }
}

impl CloserQueue {
    /// Creates the broker's end from the socket that [`pair`] returned.
    pub(crate) const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            shared: Vec::new(),
            batch: Vec::new(),
            due: None,
        }
    }

    /// Returns the time until the batch is due; `None` if it is empty.
    pub(crate) fn time_left(&self) -> Option<Timespec> {
        let left = self.due?.saturating_duration_since(Instant::now());
        left.try_into().ok()
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Postpones the batch, because no process could be started.
    pub(crate) fn retry_later(&mut self) {
        self.due = Some(Instant::now() + RETRY_DELAY);
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.shared.len().saturating_add(self.batch.len()) >= MAX_BATCH
    }

    /// Receives connections from the helper until the queue is full.
    pub(crate) fn receive(&mut self) {
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
                // There are no more messages, or the helper has exited.
                Ok(_) | Err(_) => break,
            }
        }
    }

    /// Forks a process that closes the batch by exiting, and returns this child. On failure, the
    /// connections stay in the queue.
    pub(crate) fn close_batch(&mut self) -> io::Result<Pid> {
        let holder = fork::spawn_fd_holder(&self.batch)?;
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
