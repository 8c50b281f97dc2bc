//! A helper's end of one connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use thiserror::Error;

use crate::descriptors::{self, ReceiveMode};
use crate::inbox::{Inbox, Progress, Request};
use crate::violation::Violation;
use crate::wire::Features;

/// Why a connection is over.
#[derive(Debug, Error)]
pub enum Ended {
    /// The client closed it, with nothing broken off.
    #[error("closed by the client")]
    Closed,
    /// The client broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The socket failed.
    #[error("socket failed")]
    Socket(#[source] io::Error),
}

/// What there is to do next on a connection.
#[derive(Debug)]
pub enum Next {
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
    inbox: Inbox,
    /// What the socket did not take yet. Empty, and without memory, while the client reads.
    unsent: Vec<u8>,
}

impl<S: AsFd> Connection<S> {
    /// The end of a client that has connected on `socket`. It is to be [greeted](Self::greet).
    #[must_use]
    pub const fn new(socket: S) -> Self {
        Self {
            socket,
            inbox: Inbox::new(),
            unsent: Vec::new(),
        }
    }

    /// Greets the client, which waits for that.
    ///
    /// # Errors
    ///
    /// [`Ended::Socket`] if it is gone again.
    pub fn greet(&mut self) -> Result<(), Ended> {
        self.answer(&Features::NONE.encode())
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
    pub fn advance(&mut self, mode: ReceiveMode) -> Result<Next, Ended> {
        if let Some(next) = self.flush()? {
            return Ok(next);
        }
        loop {
            let is_idle = self.inbox.is_between_requests();
            let (socket, space) = (self.socket.as_fd(), self.inbox.space());
            let mode = match mode {
                ReceiveMode::Wait if !is_idle => ReceiveMode::NoWait,
                mode => mode,
            };
            let (count, received) = match descriptors::receive(socket, space, mode) {
                Ok(received) => received,
                // The second: whoever stops this process and lets it go on, or freezes it, ends a read that
                // waits (signal(7)).
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    return Ok(Next::AwaitReadable);
                }
                Err(error) => return Err(Ended::Socket(error)),
            };
            if count == 0 && self.inbox.is_between_requests() {
                return Err(Ended::Closed);
            }
            match self.inbox.receive(count, received)? {
                Progress::Incomplete => {}
                Progress::Negotiated(features) => return Ok(Next::Negotiated(features)),
                Progress::Request(request) => return Ok(Next::Request(request)),
            }
        }
    }

    /// Whether something is still to be sent, for want of room or memory.
    #[must_use]
    pub const fn is_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether the features are agreed on.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        self.inbox.is_negotiated()
    }

    /// Whether the client owes nothing: the features are agreed on, and nothing of a request has arrived.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.inbox.is_negotiated() && self.inbox.is_between_requests()
    }

    /// Returns the number of descriptors that dropping the connection closes.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.inbox.descriptor_count()
    }

    /// Sends the bytes of a response, as far as the socket takes them; [`Connection::advance`] sends the
    /// rest.
    ///
    /// # Errors
    ///
    /// [`Ended::Socket`] if the client is gone.
    pub fn answer(&mut self, response: &[u8]) -> Result<(), Ended> {
        let sent = self.send(response)?.unwrap_or(0);
        self.unsent
            .extend_from_slice(response.get(sent..).unwrap_or_default());
        Ok(())
    }

    /// Sends what is unsent; says what to wait for if something is left.
    fn flush(&mut self) -> Result<Option<Next>, Ended> {
        if self.unsent.is_empty() {
            return Ok(None);
        }
        let Some(sent) = self.send(&self.unsent)? else {
            return Ok(Some(Next::AwaitMemory));
        };
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
            return Ok(None);
        }
        Ok(Some(Next::AwaitWritable))
    }

    /// How many bytes were sent; `None` if there is no memory for any.
    fn send(&self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        match send(
            &self.socket,
            bytes,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(sent) => Ok(Some(sent)),
            Err(Errno::WOULDBLOCK) => Ok(Some(0)),
            // The command was executed, and its answer must not be lost.
            Err(Errno::NOBUFS | Errno::NOMEM) => Ok(None),
            Err(error) => Err(Ended::Socket(error.into())),
        }
    }
}

impl<S: AsFd> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
