// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connections that are served.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slab::Slab;

use super::limiter::{Limiter, Permit};
use super::request_timeout::RequestTimer;
use super::session::Session;
use super::sync::Mutex;
use super::sync::atomic::{AtomicBool, Ordering};
use crate::command::peer::ProcessKey;
use crate::monitor::ConnectedClient;

/// The connections that are served, each with a token that does not change.
pub(super) type ConnectionTable = Slab<Arc<ConnectionEntry>>;

/// Permits of connections. A connection holds one from accept(2) until the kernel has released it
/// and every descriptor that its client sent over it. A close can block for an unlimited time, so a
/// permit must cover connections that are being closed.
pub(super) type ConnectionPermits = Limiter<ProcessKey, 1>;

/// A connection, with the fields that other threads read while a worker holds the session lock.
///
/// The last owner of an entry closes the connection, which can block. The fields are dropped in
/// this order: what the client sent, the socket, the permit.
#[derive(Debug)]
pub(super) struct ConnectionEntry {
    pub(super) session: Mutex<Session>,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) request_timer: RequestTimer,
    /// The client, for the operator.
    pub(super) client: ConnectedClient,
    /// No worker serves the connection, and its client has started no request that was received.
    pub(super) is_idle: AtomicBool,
    /// The server waits for the client to read a reply.
    pub(super) awaits_peer_read: AtomicBool,
    /// The close of a descriptor of the client is deferred.
    pub(super) has_deferred_fd: AtomicBool,
    #[expect(dead_code, reason = "held until the connection is closed")]
    pub(super) permit: Permit<ProcessKey, 1, Arc<ConnectionPermits>>,
}

impl ConnectionEntry {
    /// Returns whether the client has sent nothing since the reply to its last request.
    pub(super) fn is_between_requests(&self) -> bool {
        let mut socket = [PollFd::new(&*self.socket, PollFlags::IN)];
        // In this order: a worker clears the flag before it receives anything.
        poll(&mut socket, Some(&Timespec::default())) == Ok(0)
            && self.is_idle.load(Ordering::SeqCst)
    }
}
