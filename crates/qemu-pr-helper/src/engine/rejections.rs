//! Connections that are rejected at once: closed without a thread that could block.

use std::os::fd::OwnedFd;

use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Mutex, lock};
use crate::closer::Closer;
use crate::logging::Seldom;

/// The number of threads that may be blocked in closing rejected connections, if these cannot be
/// handed over.
const MAX_BLOCKED: usize = 16;

/// The number of rejected connections that are kept open, if they cannot be handed over and as many
/// threads as may are blocked. Then no more are accepted for a while.
pub(super) const MAX_KEPT: usize = 16;

/// Closes rejected connections.
#[derive(Debug)]
pub(super) struct Rejections {
    /// None in tests that need no more than a server.
    closer: Option<Closer>,
    blocked: AtomicUsize,
    kept: Mutex<Vec<OwnedFd>>,
    warning: Seldom,
}

impl Rejections {
    /// Creates a value that hands connections over to `closer`.
    pub(super) const fn new(closer: Option<Closer>) -> Self {
        Self {
            closer,
            blocked: AtomicUsize::new(0),
            kept: Mutex::new(Vec::new()),
            warning: Seldom::new(),
        }
    }

    /// Closes a connection by handing it over. Waits if the broker is behind, but not for long.
    ///
    /// # Errors
    ///
    /// Returns the connection if it cannot be handed over.
    pub(super) fn hand_over(&self, connection: OwnedFd) -> Result<(), OwnedFd> {
        let Some(closer) = &self.closer else {
            return Err(connection);
        };
        closer.close(connection).map_err(|(connection, error)| {
            if self.warning.is_due() {
                log::warn!(
                    "rejected connection cannot be handed over to the broker, and is closed here: \
                     {error}"
                );
            }
            connection
        })
    }

    /// Closes a connection that could not be handed over. This can block in [`MAX_BLOCKED`] threads;
    /// another thread keeps the connection open.
    pub(super) fn close(&self, connection: OwnedFd) {
        let one_more = |blocked: usize| (blocked < MAX_BLOCKED).then(|| blocked.saturating_add(1));
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        if self.blocked.fetch_update(set, fetch, one_more).is_ok() {
            drop(connection);
            self.blocked.fetch_sub(1, Ordering::SeqCst);
        } else {
            lock(&self.kept).push(connection);
        }
    }

    /// Returns whether no more connections can be kept open.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.kept).len() >= MAX_KEPT
    }

    /// Tries again to close the connections that were kept. This can block as [`Self::close`] can.
    pub(super) fn retry(&self) {
        let kept = std::mem::take(&mut *lock(&self.kept));
        for connection in kept {
            if let Err(connection) = self.hand_over(connection) {
                self.close(connection);
            }
        }
    }
}
