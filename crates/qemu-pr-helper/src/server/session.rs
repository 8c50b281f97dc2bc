//! One client's connection: bytes to requests, outcomes to bytes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{Disconnect, PollResult};
use pr_helper_protocol::{Connection, ProtocolError, ReplyBuffer, Request};

use crate::command::executor::CommandResult;
use crate::command::peer::{Peer, ProcessKey};
use crate::error_chain;
use crate::logging::KeyedRateLimit;
use crate::trace::trace;

// Rate-limited, because a client can cause these warnings again and again by connecting again.
static VIOLATION: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();
static HALF: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();
static UNANSWERED: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();
static UNREAD: KeyedRateLimit<ProcessKey> = KeyedRateLimit::new();

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Bytes of the client.
    Readable,
    /// The rest of what the client has begun: a request, or its answer to the greeting.
    Rest,
    /// Room for bytes to the client.
    Writable,
    /// Memory of the kernel's for bytes to the client, of which nobody tells when it is there.
    Memory,
    /// Nothing: the connection is over.
    Over,
}

/// What [`Session::serve`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It has answered a request; there may be another.
    Request,
    /// The client has answered the greeting; there may be a request.
    Handshake,
    /// There was none, and this is to be waited for.
    Nothing(Wait),
}

/// One client's connection.
#[derive(Debug)]
pub struct Session {
    client: Peer,
    /// Shared with whoever waits for the client while the session is somebody else's.
    connection: Connection<Arc<OwnedFd>>,
}

impl Session {
    /// A session with the `client` on `socket`, who is to be [greeted](Self::greet).
    #[must_use]
    pub const fn new(socket: Arc<OwnedFd>, client: Peer) -> Self {
        Self {
            client,
            connection: Connection::new(socket),
        }
    }

    /// Greets the client. Says what to wait for then: where the kernel lacked memory, that the greeting can leave.
    ///
    /// # Errors
    ///
    /// That it is gone again.
    pub fn greet(&mut self) -> Result<Wait, Disconnect> {
        self.connection.send_greeting()?;
        let client = self.client;
        log::info!("{client}: connected");
        trace!(pr_helper_client_connected(
            client.connection_id(),
            client.pid(),
            client.user()
        ));
        Ok(self.wait())
    }

    /// Sends what is left of the last reply, reads the next request, passes it to `execute`, and
    /// sends the reply. The connection is over if `execute` returns `None`.
    ///
    /// `execute` gets the data area of the reply, which is as long as the command allows.
    pub fn serve(
        &mut self,
        mode: ReceiveMode,
        reply: &mut ReplyBuffer,
        execute: impl FnOnce(&Peer, Request, &mut [u8]) -> Option<CommandResult>,
    ) -> Served {
        let answered = match self.connection.poll_request(mode) {
            Ok(PollResult::AwaitReadable) => return Served::Nothing(self.wait()),
            Ok(PollResult::AwaitWritable) => return Served::Nothing(Wait::Writable),
            Ok(PollResult::AwaitMemory) => return Served::Nothing(Wait::Memory),
            Ok(PollResult::Negotiated(features)) => {
                trace!(pr_helper_client_negotiated(
                    self.client.connection_id(),
                    features.get()
                ));
                return Served::Handshake;
            }
            Ok(PollResult::Request(request)) => {
                let command = request.command;
                let outcome = execute(&self.client, request, reply.data_area(&command));
                let Some(CommandResult {
                    status,
                    sense,
                    data_len: length,
                }) = outcome
                else {
                    return Served::Nothing(Wait::Over);
                };
                self.connection
                    .send(reply.encode(&command, status, &sense, length))
            }
            Err(ended) => Err(ended),
        };
        match answered {
            Ok(()) => Served::Request,
            Err(ended) => {
                self.end(&ended);
                Served::Nothing(Wait::Over)
            }
        }
    }

    /// What to wait for before [`Self::serve`] is of use again.
    #[must_use]
    pub const fn wait(&self) -> Wait {
        if self.connection.has_pending_output() {
            Wait::Writable
        } else if self.connection.is_idle() {
            Wait::Readable
        } else {
            Wait::Rest
        }
    }

    /// Returns the number of descriptors of the client that dropping the session closes.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.connection.fd_count()
    }

    /// Logs that the connection ends because of a timeout of the client.
    pub fn give_up(&self) {
        let client = self.client;
        let (what, remark) = if self.connection.has_pending_output() {
            ("did not read its replies in time", &UNREAD)
        } else if self.connection.is_negotiated() {
            ("took too long for a request", &HALF)
        } else {
            ("did not answer the greeting in time", &UNANSWERED)
        };
        if let Some(suppressed) = remark.should_log(client.process_key()) {
            log::warn!("{client}: {what}, connection closed{suppressed}");
        }
        self.trace_end(what);
    }

    fn end(&self, ended: &Disconnect) {
        let client = self.client;
        match ended {
            Disconnect::Closed => log::info!("{client}: disconnected"),
            // A client that is killed ends like this, which is nobody's fault.
            Disconnect::Protocol(ProtocolError::Truncated) | Disconnect::Socket(_) => {
                log::info!("{client}: connection lost: {}", error_chain(ended));
            }
            Disconnect::Protocol(violation) => {
                if let Some(suppressed) = VIOLATION.should_log(client.process_key()) {
                    log::warn!(
                        "{client}: protocol violation, connection closed: {violation}{suppressed}"
                    );
                }
            }
        }
        self.trace_end(&error_chain(ended));
    }

    fn trace_end(&self, reason: &str) {
        trace!(pr_helper_client_disconnected(
            self.client.connection_id(),
            self.client.pid(),
            self.client.user(),
            reason,
        ));
    }
}
