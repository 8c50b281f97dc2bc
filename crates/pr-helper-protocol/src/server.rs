//! A helper's end of one connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use thiserror::Error;

use crate::decoder::{Progress, Request, RequestDecoder};
use crate::error::ProtocolError;
use crate::fd_passing::{self, ReceiveMode};
use crate::wire::Features;

/// Why a connection is over.
#[derive(Debug, Error)]
pub enum Disconnect {
    /// The client closed it, with nothing broken off.
    #[error("closed by the client")]
    Closed,
    /// The client broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The socket failed.
    #[error("socket failed")]
    Socket(#[source] io::Error),
}

/// What there is to do next on a connection.
#[derive(Debug)]
pub enum PollResult {
    /// The client has answered the greeting, with the features that it wants: requests can follow.
    Negotiated(Features),
    /// Execute this, then [`Connection::answer`].
    Request(Request),
    /// Come back when the socket can be read.
    AwaitReadable,
    /// Come back when the socket can be written: the client does not read its answers.
    AwaitWritable,
    /// Come back in a while: the kernel has no memory for an answer. That the socket can be written says nothing
    /// about it.
    AwaitMemory,
}

/// A helper's end of one connection.
#[derive(Debug)]
pub struct Connection<S = OwnedFd> {
    socket: S,
    decoder: RequestDecoder,
    /// What the socket did not take yet. Empty, and without memory, while the client reads.
    pending_output: Vec<u8>,
}

impl<S: AsFd> Connection<S> {
    /// The end of a client that has connected on `socket`. It is to be [greeted](Self::greet).
    #[must_use]
    pub const fn new(socket: S) -> Self {
        Self {
            socket,
            decoder: RequestDecoder::new(),
            pending_output: Vec::new(),
        }
    }

    /// Greets the client, which waits for that.
    ///
    /// # Errors
    ///
    /// [`Ended::Socket`] if it is gone again.
    pub fn send_greeting(&mut self) -> Result<(), Disconnect> {
        self.send(&Features::NONE.encode())
    }

    /// Goes on from where the connection stands: sends what is unsent, then reads.
    ///
    /// No request is read before the answer to the one before has left: a client that does not read
    /// costs a helper one answer. With [`ReceiveMode::Wait`] the call waits for the beginning of a
    /// request, but not for the rest of one.
    ///
    /// # Errors
    ///
    /// Returns why the connection is over. The caller drops it.
    pub fn poll_request(&mut self, mode: ReceiveMode) -> Result<PollResult, Disconnect> {
        if let Some(next) = self.flush()? {
            return Ok(next);
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
                // The second: whoever stops this process and lets it go on, or freezes it, ends a read that
                // waits (signal(7)).
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    return Ok(PollResult::AwaitReadable);
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

    /// Whether something is still to be sent, for want of room or memory.
    #[must_use]
    pub const fn has_pending_output(&self) -> bool {
        !self.pending_output.is_empty()
    }

    /// Whether the features are agreed on.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        self.decoder.is_negotiated()
    }

    /// Whether the client owes nothing: the features are agreed on, and nothing of a request has arrived.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.decoder.is_negotiated() && self.decoder.is_between_requests()
    }

    /// Returns the number of descriptors that dropping the connection closes.
    #[must_use]
    pub fn fd_count(&self) -> usize {
        self.decoder.fd_count()
    }

    /// Sends the bytes of a response, as far as the socket takes them; [`Connection::advance`] sends the
    /// rest.
    ///
    /// # Errors
    ///
    /// [`Ended::Socket`] if the client is gone.
    pub fn send(&mut self, response: &[u8]) -> Result<(), Disconnect> {
        let sent = self.try_send(response)?.unwrap_or(0);
        self.pending_output
            .extend_from_slice(response.get(sent..).unwrap_or_default());
        Ok(())
    }

    /// Sends what is unsent; says what to wait for if something is left.
    fn flush(&mut self) -> Result<Option<PollResult>, Disconnect> {
        if self.pending_output.is_empty() {
            return Ok(None);
        }
        let Some(sent) = self.try_send(&self.pending_output)? else {
            return Ok(Some(PollResult::AwaitMemory));
        };
        self.pending_output.drain(..sent);
        if self.pending_output.is_empty() {
            self.pending_output = Vec::new();
            return Ok(None);
        }
        Ok(Some(PollResult::AwaitWritable))
    }

    /// How many bytes were sent; `None` if there is no memory for any.
    fn try_send(&self, bytes: &[u8]) -> Result<Option<usize>, Disconnect> {
        match send(
            &self.socket,
            bytes,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(sent) => Ok(Some(sent)),
            Err(Errno::WOULDBLOCK) => Ok(Some(0)),
            // The command was executed, and its answer must not be lost.
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
