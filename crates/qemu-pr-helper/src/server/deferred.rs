// SPDX-License-Identifier: MIT OR Apache-2.0

//! Work that can block, deferred to a worker that is allowed to.
//!
//! While no other thread can be started, the last worker defers closing what clients send. It
//! serves only what needs no more than that: each connection has at most one deferred descriptor,
//! and is not read any further before that is closed. A worker that handles several connections in
//! turn defers closing them too, so that the others need not wait.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::connections::ConnectionEntry;
use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Mutex, lock};

/// A deferred close.
#[derive(Debug)]
pub(super) enum DeferredClose {
    /// A descriptor that the client of the connection sent.
    Fd(OwnedFd, Arc<ConnectionEntry>),
    /// A connection that has ended.
    Connection(Box<ConnectionEntry>),
}

/// Number of deferred descriptors above which no connection is read. Each connection has at most
/// one, unless its client broke the protocol: a message can carry 253.
const MAX_FDS: usize = 256;

/// The deferred work.
#[derive(Debug)]
pub(super) struct DeferredWork {
    closes: Mutex<Vec<DeferredClose>>,
    /// Number of descriptors of ended connections among `closes`.
    fds: AtomicUsize,
    /// Connections that are not read until their deferred descriptor is closed, with their tokens.
    stalled: Mutex<Vec<(usize, Arc<ConnectionEntry>)>>,
}

impl DeferredClose {
    /// Returns the number of descriptors of an ended connection; 0 for a single descriptor.
    fn fd_count(&self) -> usize {
        match self {
            Self::Fd(..) => 0,
            Self::Connection(connection) => lock(&connection.session).fd_count(),
        }
    }
}

impl DeferredWork {
    pub(super) const fn new() -> Self {
        Self {
            closes: Mutex::new(Vec::new()),
            fds: AtomicUsize::new(0),
            stalled: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        let closes = lock(&self.closes).len();
        closes.saturating_add(lock(&self.stalled).len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn has_closes(&self) -> bool {
        !lock(&self.closes).is_empty()
    }

    /// Returns whether no more can be deferred.
    pub(super) fn is_full(&self) -> bool {
        self.fds.load(Ordering::SeqCst) > MAX_FDS
    }

    pub(super) fn push(&self, close: DeferredClose) {
        self.fds.fetch_add(close.fd_count(), Ordering::SeqCst);
        lock(&self.closes).push(close);
    }

    /// Runs one deferred close, which can block. Returns whether there was one.
    pub(super) fn close_one(&self) -> bool {
        // One at a time: while a thread is blocked in the first, others can take the rest.
        let Some(close) = lock(&self.closes).pop() else {
            return false;
        };
        let fds = close.fd_count();
        match close {
            DeferredClose::Fd(fd, connection) => {
                drop(fd);
                connection.has_deferred_fd.store(false, Ordering::SeqCst);
            }
            DeferredClose::Connection(connection) => drop(connection),
        }
        self.fds.fetch_sub(fds, Ordering::SeqCst);
        true
    }

    /// Records a connection that is not read for now.
    pub(super) fn stall(&self, token: usize, connection: Arc<ConnectionEntry>) {
        lock(&self.stalled).push((token, connection));
    }

    /// Takes the stalled connections, which the caller rearms.
    pub(super) fn take_stalled(&self) -> Vec<(usize, Arc<ConnectionEntry>)> {
        std::mem::take(&mut *lock(&self.stalled))
    }
}
