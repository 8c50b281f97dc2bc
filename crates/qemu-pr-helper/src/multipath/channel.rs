// SPDX-License-Identifier: MIT OR Apache-2.0

//! Channel between the helper and a worker: a pair of `SOCK_SEQPACKET` sockets, which keep messages
//! apart. The helper sends a request, with the map's descriptor if a client has sent a command;
//! the worker, or the broker in its place, sends a reply. The worker sends [`READY`] when it can
//! receive the next request.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{Shutdown, shutdown};
use thiserror::Error;

use super::deadline::Deadline;
use super::message::{
    MAX_REPLY_LEN, MAX_REQUEST_LEN, MapRequest, NOT_STARTED, WorkerReply, WorkerRequest,
};
use crate::process::seqpacket::{try_send, wait_readable};

/// Time after the deadline of a command for the worker to send its reply.
pub(super) const REPLY_GRACE: Duration = Duration::from_secs(2);

/// Message of a worker that has sent a reply and can receive the next request.
const READY: [u8; 1] = *b"r";

/// State of a worker that has sent a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerState {
    /// The worker can execute another command.
    Ready,
    /// The worker has not finished the last command: it sends commands to multipathd.
    Busy,
    /// The worker executes no other command.
    Exited,
}

/// Request that a worker has received.
#[derive(Debug)]
pub(super) enum ReceivedRequest {
    /// A command on the map of the descriptor.
    Command(WorkerRequest, OwnedFd),
    /// Forgetting a key, or checking paths.
    Map(MapRequest),
}

impl ReceivedRequest {
    /// Returns the time until which the helper waits for the reply.
    pub(super) const fn deadline(&self) -> Deadline {
        match self {
            Self::Command(request, _) => request.deadline,
            Self::Map(request) => request.deadline,
        }
    }

    /// Returns whether the reply must contain the steps.
    pub(super) const fn is_traced(&self) -> bool {
        match self {
            Self::Command(request, _) => request.is_traced,
            Self::Map(request) => request.is_traced,
        }
    }
}

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

/// Sends a request, with the descriptor of its map if it has one.
pub(super) fn send_request(
    socket: &OwnedFd,
    request: &[u8],
    map: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    match map {
        Some(map) => fd_passing::send(socket.as_fd(), request, map),
        None => try_send(socket, request),
    }
}

/// Waits for the next request for at most `timeout`; `None` if the helper has closed its end.
///
/// # Errors
///
/// Returns [`io::ErrorKind::WouldBlock`] if no request arrives within `timeout`.
pub(super) fn receive_request(
    socket: &OwnedFd,
    timeout: Duration,
) -> io::Result<Option<ReceivedRequest>> {
    // One system call less than waiting with poll(2) after the request has arrived.
    set_socket_timeout(socket, Timeout::Recv, Some(timeout))?;
    receive(socket, ReceiveMode::Wait)
}

/// Returns the request that the helper has sent meanwhile; `None` if there is none, and the helper
/// cannot send another one.
pub(super) fn receive_last_request(socket: &OwnedFd) -> io::Result<Option<ReceivedRequest>> {
    shutdown(socket, Shutdown::Read)?;
    receive(socket, ReceiveMode::NoWait)
}

fn receive(socket: &OwnedFd, mode: ReceiveMode) -> io::Result<Option<ReceivedRequest>> {
    let mut buffer = vec![0; MAX_REQUEST_LEN];
    let (length, descriptors) = loop {
        match fd_passing::receive(socket.as_fd(), &mut buffer, mode) {
            // With a timeout, recvmsg(2) fails like this if the process is stopped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    let bytes = buffer.get(..length).unwrap_or_default();
    let request = match descriptors {
        _ if length == 0 => return Ok(None),
        ReceivedFds::One(map) => {
            WorkerRequest::decode(bytes).map(|request| ReceivedRequest::Command(request, map))
        }
        ReceivedFds::None => MapRequest::decode(bytes).map(ReceivedRequest::Map),
        _ => None,
    };
    let malformed = || io::Error::other("the helper sent a malformed request");
    request.map(Some).ok_or_else(malformed)
}

/// Informs the helper that the worker can receive the next request.
pub(super) fn send_ready(socket: &OwnedFd) -> io::Result<()> {
    try_send(socket, &READY)
}

/// Ends the channel. A process that hangs does not close its end.
pub(super) fn close(socket: &OwnedFd) -> io::Result<()> {
    Ok(shutdown(socket, Shutdown::Both)?)
}

/// Returns the state of a worker that has sent a reply.
pub(super) fn worker_state(socket: &OwnedFd) -> WorkerState {
    let mut message = [0; READY.len() + 1];
    match fd_passing::receive(socket.as_fd(), &mut message, ReceiveMode::NoWait) {
        Ok((length, _)) if message.get(..length) == Some(&READY) => WorkerState::Ready,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => WorkerState::Busy,
        Ok(_) | Err(_) => WorkerState::Exited,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::seqpacket::pair;
    use pr_helper_protocol::{Command, wire};
    use std::fs::File;

    /// Sends READ KEYS.
    fn send_request(socket: &OwnedFd) -> io::Result<()> {
        let cdb = wire::pad_cdb(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        let request = WorkerRequest {
            deadline: Deadline(u64::MAX),
            is_traced: false,
            multipathd: None,
            command: Command::new(cdb).unwrap(),
            parameter_list: Vec::new(),
        };
        let null = File::open("/dev/null").unwrap();
        fd_passing::send(socket.as_fd(), &request.encode(), null.as_fd())
    }

    #[test]
    fn request_before_the_idle_timeout_is_received() {
        let (helper, worker) = pair().unwrap();
        send_request(&helper).unwrap();
        assert!(receive_last_request(&worker).unwrap().is_some());
        assert!(receive_last_request(&worker).unwrap().is_none());
    }

    #[test]
    fn request_after_the_idle_timeout_is_not_sent() {
        let (helper, worker) = pair().unwrap();
        let error = receive_request(&worker, Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(receive_last_request(&worker).unwrap().is_none());
        let error = send_request(&helper).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn worker_is_ready_after_its_message() {
        let (helper, worker) = pair().unwrap();
        assert_eq!(worker_state(&helper), WorkerState::Busy);
        send_ready(&worker).unwrap();
        assert_eq!(worker_state(&helper), WorkerState::Ready);
        close(&worker).unwrap();
        assert_eq!(worker_state(&helper), WorkerState::Exited);
    }
}
