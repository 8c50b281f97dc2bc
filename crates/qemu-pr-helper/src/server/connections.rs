//! The connections that are served, and the permits that limit their number.
//!
//! A connection holds a permit from accept(2) until the kernel has released it and every descriptor
//! that its client sent over it. Closing a descriptor can block as long as its owner likes, so a limit
//! on the connections that are being served would not limit anything.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;

use super::request_timeout::RequestTimer;
use super::session::Session;
use super::sync::atomic::AtomicBool;
use super::sync::{Mutex, lock};
use crate::command::peer::ProcessKey;

/// The connections that are served, each with a token that does not change.
pub(super) type ConnectionTable = Slab<Arc<ConnectionEntry>>;

/// A connection, and what other threads look at while a worker has its session locked.
///
/// The last owner of an entry closes the connection, which can block. The fields are dropped in this
/// order: what the client sent, the socket, the permit.
#[derive(Debug)]
pub(super) struct ConnectionEntry {
    pub(super) session: Mutex<Session>,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) request_timer: RequestTimer,
    /// The server waits for the client to read a reply.
    pub(super) awaits_peer_read: AtomicBool,
    /// The close of a descriptor of the client is deferred.
    pub(super) has_deferred_fd: AtomicBool,
    #[expect(dead_code, reason = "held until the connection is closed")]
    permit: ConnectionPermit,
}

impl ConnectionEntry {
    /// Creates an entry for the session on `socket`.
    pub(super) fn new(session: Session, socket: Arc<OwnedFd>, permit: ConnectionPermit) -> Self {
        Self {
            session: Mutex::new(session),
            socket,
            request_timer: RequestTimer::idle(),
            awaits_peer_read: AtomicBool::new(false),
            has_deferred_fd: AtomicBool::new(false),
            permit,
        }
    }
}

/// The permits of all connections.
#[derive(Debug)]
pub(super) struct ConnectionPermits {
    max_per_process: usize,
    held: Mutex<HeldPermits>,
}

#[derive(Debug, Default)]
struct HeldPermits {
    total: usize,
    /// Number of connections of each process; a process without connections has no entry.
    per_process: HashMap<ProcessKey, usize>,
}

/// Permit for one connection. Dropping it frees it, so a connection drops it last.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    permits: Arc<ConnectionPermits>,
    process: ProcessKey,
}

impl ConnectionPermits {
    /// Creates permits of which one process can hold `max_per_process`.
    pub(super) fn new(max_per_process: usize) -> Arc<Self> {
        Arc::new(Self {
            max_per_process,
            held: Mutex::new(HeldPermits::default()),
        })
    }

    /// Returns the number of connections that hold a permit.
    pub(super) fn total(&self) -> usize {
        lock(&self.held).total
    }

    /// Acquires a permit for a connection of `process`; `None` if the process is at its limit.
    pub(super) fn try_acquire(self: &Arc<Self>, process: ProcessKey) -> Option<ConnectionPermit> {
        let mut held = lock(&self.held);
        let of_process = held.per_process.entry(process).or_default();
        if *of_process >= self.max_per_process {
            return None;
        }
        *of_process = of_process.saturating_add(1);
        held.total = held.total.saturating_add(1);
        drop(held);
        Some(ConnectionPermit {
            permits: Arc::clone(self),
            process,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut held = lock(&self.permits.held);
        held.total = held.total.saturating_sub(1);
        if let Some(of_process) = held.per_process.get_mut(&self.process) {
            *of_process = of_process.saturating_sub(1);
            if *of_process == 0 {
                held.per_process.remove(&self.process);
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn dropped_permits_can_be_acquired_again() {
        let permits = ConnectionPermits::new(2);
        let (one, other) = (ProcessKey::Pid(1), ProcessKey::Pid(2));
        let held: Vec<_> = (0..2).map(|_| permits.try_acquire(one).unwrap()).collect();
        assert!(permits.try_acquire(one).is_none());
        let of_other = permits.try_acquire(other).unwrap();
        assert_eq!(permits.total(), 3);
        drop(held);
        assert!(permits.try_acquire(one).is_some());
        drop(of_other);
        assert_eq!(permits.total(), 0);
        assert!(lock(&permits.held).per_process.is_empty());
    }
}
