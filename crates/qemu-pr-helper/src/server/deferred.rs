//! Closes that can block, deferred to a thread that may.
//!
//! While no other thread can be started, the last one defers closing what clients send, and serves
//! only what needs no more than this: each connection has one deferred descriptor at most, and is not
//! read any further before that is closed. A thread that works on several connections in turn defers
//! closing one of them too, so that the others need not wait for it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::connections::Seat;
use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Mutex, lock};
use crate::server::session::Wait;

/// What a thread that may block has to do.
#[derive(Debug)]
pub(super) enum Deferred {
    /// Close a descriptor that the client of the seat sent.
    Descriptor(OwnedFd, Arc<Seat>),
    /// Close a connection that has ended.
    Seat(Box<Seat>),
}

/// A connection that is not read until its deferred descriptor is closed.
#[derive(Debug)]
pub(super) struct Stalled {
    pub(super) place: usize,
    pub(super) seat: Arc<Seat>,
    pub(super) wait: Wait,
}

/// Number of deferred descriptors above which no connection is read. Each has one at most, unless it
/// broke the protocol: a message can carry 253.
const MAX_DESCRIPTORS: usize = 256;

/// What is deferred.
#[derive(Debug)]
pub(super) struct DeferredWork {
    closes: Mutex<Vec<Deferred>>,
    /// Descriptors of ended connections among `closes`.
    descriptors: AtomicUsize,
    stalled: Mutex<Vec<Stalled>>,
}

impl Deferred {
    /// Returns the number of descriptors that an ended connection has not closed.
    fn descriptor_count(&self) -> usize {
        match self {
            Self::Descriptor(..) => 0,
            Self::Seat(seat) => lock(&seat.session).descriptor_count(),
        }
    }

    /// Closes, which can block.
    fn close(self) {
        if let Self::Descriptor(descriptor, seat) = self {
            drop(descriptor);
            seat.has_deferred_fd.store(false, Ordering::SeqCst);
        }
    }
}

impl DeferredWork {
    /// Creates an empty value.
    pub(super) const fn new() -> Self {
        Self {
            closes: Mutex::new(Vec::new()),
            descriptors: AtomicUsize::new(0),
            stalled: Mutex::new(Vec::new()),
        }
    }

    /// Returns the number of deferred closes and stalled connections.
    pub(super) fn len(&self) -> usize {
        let closes = lock(&self.closes).len();
        closes.saturating_add(lock(&self.stalled).len())
    }

    /// Returns whether nothing is deferred.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a close is deferred.
    pub(super) fn has_closes(&self) -> bool {
        !lock(&self.closes).is_empty()
    }

    /// Returns whether no more can be deferred.
    pub(super) fn is_full(&self) -> bool {
        self.descriptors.load(Ordering::SeqCst) > MAX_DESCRIPTORS
    }

    /// Defers a close.
    pub(super) fn push(&self, close: Deferred) {
        let descriptors = close.descriptor_count();
        self.descriptors.fetch_add(descriptors, Ordering::SeqCst);
        lock(&self.closes).push(close);
    }

    /// Does one deferred close, which can block. Returns whether there was one.
    pub(super) fn close_one(&self) -> bool {
        // One at a time: while a thread is blocked in the first, others can take the rest.
        let Some(close) = lock(&self.closes).pop() else {
            return false;
        };
        let descriptors = close.descriptor_count();
        close.close();
        self.descriptors.fetch_sub(descriptors, Ordering::SeqCst);
        true
    }

    /// Records a connection that is not read for now.
    pub(super) fn stall(&self, connection: Stalled) {
        lock(&self.stalled).push(connection);
    }

    /// Returns the connections that are not read, which the caller waits for again.
    pub(super) fn take_stalled(&self) -> Vec<Stalled> {
        std::mem::take(&mut *lock(&self.stalled))
    }
}
