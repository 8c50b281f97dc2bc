// SPDX-License-Identifier: MIT OR Apache-2.0

//! The session of one connection: reads requests, sends replies, and logs how the connection ends.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{Disconnect, PollResult, Readiness};
use pr_helper_protocol::{Command, Connection, ProtocolError, ReplyBuffer};

use crate::command::executor::CommandResult;
use crate::command::peer::{Peer, ProcessKey};
use crate::error_chain;
use crate::logging::KeyedRateLimit;
use crate::trace::trace;

// Rate limits: a client can trigger these warnings again and again by reconnecting.
static PROTOCOL_WARNING: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();
static REPLY_WARNING: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();
static REQUEST_WARNING: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();
static GREETING_WARNING: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();

/// End of a connection, which the session has logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

#[derive(Debug)]
pub(super) struct Session {
    peer: Peer,
    /// Shared with the entry in the table, which other threads use while the session is locked.
    connection: Connection<Arc<OwnedFd>>,
}

impl Session {
    pub(super) const fn new(socket: Arc<OwnedFd>, peer: Peer) -> Self {
        Self {
            peer,
            connection: Connection::new(socket),
        }
    }

    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends the greeting. Returns the readiness to wait for: [`Readiness::Writable`] if the kernel
    /// had no memory for the greeting.
    pub(super) fn send_greeting(&mut self) -> Result<Readiness, Closed> {
        let peer = &self.peer;
        if let Err(disconnect) = self.connection.send_greeting() {
            log::info!(
                "{peer}: disconnected before the greeting: {}",
                error_chain(&disconnect)
            );
            trace!(pr_helper_client_refused(
                peer.connection_id(),
                peer.pid,
                peer.uid,
                "disconnected before the greeting",
            ));
            return Err(Closed);
        }
        log::info!("{peer}: connected");
        trace!(pr_helper_client_connected(
            peer.connection_id(),
            peer.pid,
            peer.uid
        ));
        Ok(self.readiness())
    }

    /// Sends the rest of the last reply, then reads the next request.
    pub(super) fn next_request(&mut self, mode: ReceiveMode) -> Result<PollResult, Closed> {
        let next = self.connection.poll_request(mode);
        let next = next.map_err(|disconnect| self.disconnect(&disconnect))?;
        if let PollResult::Negotiated(features) = next {
            trace!(pr_helper_client_negotiated(
                self.peer.connection_id(),
                features.get()
            ));
        }
        Ok(next)
    }

    /// Sends the reply to `command`. Its data is in the data area of `reply` already.
    pub(super) fn reply(
        &mut self,
        command: &Command,
        result: &CommandResult,
        reply: &mut ReplyBuffer,
    ) -> Result<(), Closed> {
        let CommandResult {
            status,
            sense,
            data_len,
        } = result;
        let bytes = reply.encode(command, *status, sense, *data_len);
        let sent = self.connection.send(bytes);
        sent.map_err(|disconnect| self.disconnect(&disconnect))
    }

    pub(super) const fn readiness(&self) -> Readiness {
        self.connection.readiness()
    }

    /// Returns the number of descriptors of the client that dropping the session closes.
    pub(super) fn fd_count(&self) -> usize {
        self.connection.fd_count()
    }

    /// Logs that the client has timed out.
    pub(super) fn time_out(&self) -> Closed {
        let peer = &self.peer;
        let (reason, warning) = if self.readiness() == Readiness::Writable {
            ("timed out reading replies", &REPLY_WARNING)
        } else if self.connection.is_negotiated() {
            ("timed out sending a request", &REQUEST_WARNING)
        } else {
            ("timed out answering the greeting", &GREETING_WARNING)
        };
        if let Some(suppressed) = warning.should_log(peer.process_key()) {
            log::warn!("{peer}: {reason}, connection closed{suppressed}");
        }
        self.trace_disconnect(reason)
    }

    /// Logs why the connection ends.
    fn disconnect(&self, disconnect: &Disconnect) -> Closed {
        let peer = &self.peer;
        match disconnect {
            Disconnect::Closed => log::info!("{peer}: disconnected"),
            // The connection of a client that is killed ends like this.
            Disconnect::Protocol(ProtocolError::Truncated) | Disconnect::Socket(_) => {
                log::info!("{peer}: connection lost: {}", error_chain(disconnect));
            }
            Disconnect::Protocol(violation) => {
                if let Some(suppressed) = PROTOCOL_WARNING.should_log(peer.process_key()) {
                    log::warn!(
                        "{peer}: protocol violation, connection closed: {violation}{suppressed}"
                    );
                }
            }
        }
        self.trace_disconnect(&error_chain(disconnect))
    }

    fn trace_disconnect(&self, reason: &str) -> Closed {
        trace!(pr_helper_client_disconnected(
            self.peer.connection_id(),
            self.peer.pid,
            self.peer.uid,
            reason,
        ));
        Closed
    }
}
