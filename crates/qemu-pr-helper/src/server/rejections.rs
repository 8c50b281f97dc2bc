// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rejected connections, which are closed without blocking a worker thread.

use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};

use super::limiter::Limiter;
use super::sync::{Mutex, lock};
use crate::logging::RateLimit;
use crate::process::closer::Closer;

/// Maximum number of threads that can be blocked in closing rejected connections, if these cannot
/// be passed to the broker.
const MAX_BLOCKED: usize = 16;

/// Maximum number of rejected connections that are kept open, if they cannot be passed to the
/// broker and [`MAX_BLOCKED`] threads are blocked. Accepting is paused at this number.
pub(super) const MAX_KEPT: usize = 32;

#[derive(Debug)]
pub(super) struct Rejections {
    /// `None` only in tests.
    closer: Option<Closer>,
    /// Permits to block in a close.
    blocked: Limiter<(), 1>,
    kept: Mutex<Vec<OwnedFd>>,
    warning: RateLimit,
}

impl Rejections {
    pub(super) fn new(closer: Option<Closer>) -> Self {
        Self {
            closer,
            blocked: Limiter::new(MAX_BLOCKED),
            kept: Mutex::new(Vec::new()),
            warning: RateLimit::new(),
        }
    }

    /// Passes a connection to the broker, or keeps it open until [`Self::close_kept`]. Waits for a
    /// short time if the broker is behind, but only once for a burst of connections.
    pub(super) fn reject(&self, connection: OwnedFd) {
        // The client sees the end at once, whenever the descriptor is closed.
        let _ = shutdown(&connection, Shutdown::Both);
        let mut kept = lock(&self.kept);
        if !kept.is_empty() {
            return kept.push(connection);
        }
        drop(kept);
        if let Err(connection) = self.pass_on(connection) {
            lock(&self.kept).push(connection);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.kept).is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        lock(&self.kept).len() >= MAX_KEPT
    }

    /// Closes the connections that are kept open. This can block in [`MAX_BLOCKED`] threads, each
    /// of which has taken one connection.
    pub(super) fn close_kept(&self) {
        while let Some(_permit) = Limiter::try_acquire(&self.blocked, ()) {
            let Some(connection) = lock(&self.kept).pop() else {
                return;
            };
            drop(self.pass_on(connection));
        }
    }

    /// Passes a connection to the broker, or returns it.
    fn pass_on(&self, connection: OwnedFd) -> Result<(), OwnedFd> {
        let Some(closer) = &self.closer else {
            return Err(connection);
        };
        closer.close(connection).map_err(|(connection, error)| {
            if self.warning.should_log() {
                log::warn!(
                    "cannot pass a rejected connection to the broker, closing it in the helper: \
                     {error}"
                );
            }
            connection
        })
    }
}
