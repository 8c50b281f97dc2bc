// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helper's end of a connection. Only [`ReceiveMode::Wait`] waits for data;
//! [`ReceiveMode::NoWait`] can block while the kernel closes surplus descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use thiserror::Error;

use crate::decoder::{Progress, Request, RequestDecoder};
use crate::fd_passing::{self, ReceiveMode};
use crate::wire::{Features, ProtocolError};

/// The reason that a connection ended.
#[derive(Debug, Error)]
pub enum Disconnect {
    /// The client closed the connection between two requests.
    #[error("closed by the client")]
    Closed,
    /// The client violated the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A system call on the socket failed.
    #[error("socket failed")]
    Socket(#[source] io::Error),
}

/// Condition that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The socket is readable. The client has not started a request.
    Readable,
    /// The socket is readable. The client owes the rest of a request, or its answer to the
    /// greeting.
    PartialRequest,
    /// The socket is writable. The client does not read its replies.
    Writable,
    /// The kernel has memory for a reply. It does not report that, so the caller tries again after
    /// a delay.
    SendBuffer,
}

/// Next step on a connection.
#[derive(Debug)]
pub enum PollResult {
    /// The client has answered the greeting with the features that it wants. Requests can follow.
    Negotiated(Features),
    /// A request, to which the caller replies with [`Connection::send`].
    Request(Request),
    /// The connection is not ready. The caller waits, then polls again.
    Pending(Readiness),
}

/// The helper's end of one connection.
#[derive(Debug)]
pub struct Connection<S = OwnedFd> {
    socket: S,
    decoder: RequestDecoder,
    /// The unsent part of the last reply. Empty, with no memory allocated, once everything is sent.
    pending_output: Vec<u8>,
}

impl<S: AsFd> Connection<S> {
    /// Creates the helper's end of a newly accepted `socket`. The helper speaks first: call
    /// [`Connection::send_greeting`] next.
    #[must_use]
    pub const fn new(socket: S) -> Self {
        Self {
            socket,
            decoder: RequestDecoder::new(),
            pending_output: Vec::new(),
        }
    }

    /// Sends the helper's feature word, which offers [`Features::SUPPORTED`]. The client waits for
    /// it before sending anything.
    ///
    /// # Errors
    ///
    /// Returns [`Disconnect::Socket`] if the client has disconnected or the socket failed.
    pub fn send_greeting(&mut self) -> Result<(), Disconnect> {
        self.send(&Features::SUPPORTED.encode())
    }

    /// Sends pending output, then reads until a request is complete or no more data has arrived.
    ///
    /// The connection reads no request until the previous reply is sent completely, so a client
    /// that does not read holds at most one reply in the helper's memory. With
    /// [`ReceiveMode::Wait`] the call waits for the first bytes of a request, but not for the rest.
    ///
    /// # Errors
    ///
    /// Returns the reason that the connection ended. The caller drops the connection.
    pub fn poll_request(&mut self, mode: ReceiveMode) -> Result<PollResult, Disconnect> {
        if let Some(readiness) = self.flush()? {
            return Ok(PollResult::Pending(readiness));
        }
        loop {
            let is_idle = self.decoder.is_between_requests();
            let (socket, space) = (self.socket.as_fd(), self.decoder.buffer());
            let mode = match mode {
                ReceiveMode::Wait if !is_idle => ReceiveMode::NoWait,
                mode => mode,
            };
            let (count, received) = match fd_passing::receive(socket, space, mode) {
                Ok(received) => received,
                // A waiting read fails with EINTR if this process is stopped and continued, or
                // frozen and thawed (signal(7)).
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    return Ok(PollResult::Pending(self.readiness()));
                }
                Err(error) => return Err(Disconnect::Socket(error)),
            };
            if count == 0 && self.decoder.is_between_requests() {
                return Err(Disconnect::Closed);
            }
            match self.decoder.advance(count, received)? {
                Progress::Incomplete => {}
                Progress::Negotiated(features) => return Ok(PollResult::Negotiated(features)),
                Progress::Request(request) => return Ok(PollResult::Request(request)),
            }
        }
    }

    /// Returns the readiness to wait for before [`Self::poll_request`].
    #[must_use]
    pub const fn readiness(&self) -> Readiness {
        if !self.pending_output.is_empty() {
            Readiness::Writable
        } else if self.decoder.is_negotiated() && self.decoder.is_between_requests() {
            Readiness::Readable
        } else {
            Readiness::PartialRequest
        }
    }

    /// Returns `true` after the client has sent its feature word.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        self.decoder.is_negotiated()
    }

    /// Returns the number of descriptors that dropping the connection closes.
    #[must_use]
    pub fn fd_count(&self) -> usize {
        self.decoder.fd_count()
    }

    /// Sends as much of `response` as the socket accepts. [`Connection::poll_request`] sends the
    /// rest.
    ///
    /// # Errors
    ///
    /// Returns [`Disconnect::Socket`] if the client has disconnected or the socket failed.
    pub fn send(&mut self, response: &[u8]) -> Result<(), Disconnect> {
        let sent = self.try_send(response)?.unwrap_or(0);
        self.pending_output
            .extend_from_slice(response.get(sent..).unwrap_or_default());
        Ok(())
    }

    /// Sends what is unsent. Returns the readiness to wait for if something is left.
    fn flush(&mut self) -> Result<Option<Readiness>, Disconnect> {
        if self.pending_output.is_empty() {
            return Ok(None);
        }
        let Some(sent) = self.try_send(&self.pending_output)? else {
            return Ok(Some(Readiness::SendBuffer));
        };
        self.pending_output.drain(..sent);
        if self.pending_output.is_empty() {
            self.pending_output = Vec::new();
            return Ok(None);
        }
        Ok(Some(Readiness::Writable))
    }

    /// Returns the number of bytes sent, or `None` if the kernel has no memory to send any.
    fn try_send(&self, bytes: &[u8]) -> Result<Option<usize>, Disconnect> {
        match send(
            &self.socket,
            bytes,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(sent) => Ok(Some(sent)),
            Err(Errno::WOULDBLOCK) => Ok(Some(0)),
            // The command was executed already, so its reply must not be lost.
            Err(Errno::NOBUFS | Errno::NOMEM) => Ok(None),
            Err(error) => Err(Disconnect::Socket(error.into())),
        }
    }
}

impl<S: AsFd> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
