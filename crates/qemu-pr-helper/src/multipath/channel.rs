// SPDX-License-Identifier: MIT OR Apache-2.0

//! Channel between the helper and a worker: a pair of `SOCK_SEQPACKET` sockets, which keep messages
//! apart. The helper sends one request with the map's descriptor; the worker, or the broker in its
//! place, sends one reply.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use thiserror::Error;

use super::message::{MAX_REPLY_LEN, MAX_REQUEST_LEN, NOT_STARTED, WorkerReply, WorkerRequest};

/// Time after the deadline of a command for the worker to send its reply.
pub(super) const REPLY_GRACE: Duration = Duration::from_secs(2);

/// Time limit for a request to arrive at the worker. The helper sends the request before the worker
/// starts.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason why a command has no reply from a worker.
#[derive(Debug, Error)]
pub(super) enum WorkerError {
    /// The helper lacks a resource, such as descriptors or memory.
    #[error("cannot communicate with a worker")]
    Io(#[source] io::Error),
    #[error("the broker exited; the helper exits too")]
    BrokerGone,
    #[error("the broker did not start a worker")]
    NotStarted,
    #[error("the worker exited without a reply: it crashed or was killed")]
    Exited,
    #[error("the worker timed out after {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the worker sent a malformed reply")]
    InvalidReply,
}

/// Creates a pair of connected sockets that keep messages apart.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socketpair(AddressFamily::UNIX, kind, flags, None)?)
}

/// Sends a message without waiting for room in the queue.
pub(super) fn try_send(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    send(socket, message, flags)?;
    Ok(())
}

/// Waits until a message has arrived or the peer has closed its end. Returns false after `timeout`.
pub(super) fn wait_readable(socket: &OwnedFd, timeout: Duration) -> io::Result<bool> {
    let end = Instant::now().checked_add(timeout);
    loop {
        let left = end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn receive_request(socket: &OwnedFd) -> io::Result<(WorkerRequest, OwnedFd)> {
    wait_readable(socket, REQUEST_TIMEOUT)?;
    let mut buffer = vec![0; MAX_REQUEST_LEN];
    let (length, descriptors) =
        fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait)?;
    let request = buffer.get(..length).and_then(WorkerRequest::decode);
    match (request, descriptors) {
        (Some(request), ReceivedFds::One(map)) => Ok((request, map)),
        _ => Err(io::Error::other("the helper sent a malformed request")),
    }
}

/// Waits for the reply of a worker.
pub(super) fn receive_reply(
    socket: &OwnedFd,
    timeout: Duration,
) -> Result<WorkerReply, WorkerError> {
    if !wait_readable(socket, timeout).map_err(WorkerError::Io)? {
        return Err(WorkerError::Timeout(timeout));
    }
    let mut buffer = vec![0; MAX_REPLY_LEN];
    let mut receive = || fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait);
    let received = match receive() {
        // The peer closed its end with the request unread. A reply that it sent before follows.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive(),
        received => received,
    };
    let (length, _) = received.map_err(WorkerError::Io)?;
    match buffer.get(..length) {
        Some([]) => Err(WorkerError::Exited),
        Some(bytes) if bytes == NOT_STARTED => Err(WorkerError::NotStarted),
        Some(bytes) => WorkerReply::decode(bytes).ok_or(WorkerError::InvalidReply),
        None => Err(WorkerError::InvalidReply),
    }
}
