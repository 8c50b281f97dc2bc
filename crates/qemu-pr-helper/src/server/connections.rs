//! The connections that are served, each at an index that does not change.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;

use super::permits::ConnectionPermit;
use super::request_timer::Begun;
use super::sync::Mutex;
use super::sync::atomic::AtomicBool;
use crate::server::session::Session;

/// The connections that are served.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Slab<Arc<Seat>>,
}

/// A connection, and what other threads look at while one thread works on its session.
///
/// The fields are dropped in this order: what the client sent, the socket, the permit.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Mutex<Session>,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) begun: Begun,
    /// The client is waited for, to read what it was answered.
    pub(super) is_to_read: AtomicBool,
    /// A descriptor of the client waits for a thread that can close it.
    pub(super) has_deferred_fd: AtomicBool,
    #[expect(dead_code, reason = "held until the connection is closed")]
    pub(super) permit: ConnectionPermit,
}

impl Table {
    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a connection; returns its index.
    pub(super) fn insert(&mut self, seat: Arc<Seat>) -> usize {
        self.entries.insert(seat)
    }

    /// Returns all connections.
    pub(super) fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.entries.iter().map(|(_, seat)| seat)
    }

    /// Returns the connection at an index, if there is one.
    pub(super) fn get(&self, place: usize) -> Option<Arc<Seat>> {
        self.entries.get(place).map(Arc::clone)
    }

    /// Removes the connection at an index. The last owner of the [`Seat`] closes it, which can block.
    pub(super) fn remove(&mut self, place: usize) {
        // The caller has the seat as well, so nothing is closed here.
        let _ = self.entries.try_remove(place);
    }
}
