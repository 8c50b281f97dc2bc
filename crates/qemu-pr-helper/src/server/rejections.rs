//! Connections that are rejected at once: closed without a thread that could block.

use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};

use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Mutex, lock};
use crate::logging::RateLimit;
use crate::process::closer::Closer;

/// The number of threads that may be blocked in closing rejected connections, if these cannot be
/// handed over.
const MAX_BLOCKED: usize = 16;

/// The number of rejected connections that are kept open, if they cannot be handed over and as many
/// threads as may are blocked. Then no more are accepted for a while.
pub(super) const MAX_KEPT: usize = 32;

/// Closes rejected connections.
#[derive(Debug)]
pub(super) struct Rejections {
    /// None in tests that need no more than a server.
    closer: Option<Closer>,
    blocked: AtomicUsize,
    kept: Mutex<Vec<OwnedFd>>,
    warning: RateLimit,
}

impl Rejections {
    /// Creates a value that hands connections over to `closer`.
    pub(super) const fn new(closer: Option<Closer>) -> Self {
        Self {
            closer,
            blocked: AtomicUsize::new(0),
            kept: Mutex::new(Vec::new()),
            warning: RateLimit::new(),
        }
    }

    /// Closes a connection by handing it over, or keeps it open until [`Self::close_kept`]. Waits if
    /// the broker is behind, but not for long, and not again for each connection of a burst.
    pub(super) fn reject(&self, connection: OwnedFd) {
        // The client sees the end, whenever its descriptors are closed.
        let _ = shutdown(&connection, Shutdown::Both);
        let mut kept = lock(&self.kept);
        if !kept.is_empty() {
            return kept.push(connection);
        }
        drop(kept);
        if let Err(connection) = self.hand_over(connection) {
            lock(&self.kept).push(connection);
        }
    }

    /// Returns whether no connection is kept open.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.kept).is_empty()
    }

    /// Returns whether no more connections can be kept open.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.kept).len() >= MAX_KEPT
    }

    /// Closes the connections that are kept open, which can block in [`MAX_BLOCKED`] threads. Each of
    /// them has taken one connection.
    pub(super) fn close_kept(&self) {
        let one_more = |blocked: usize| (blocked < MAX_BLOCKED).then(|| blocked.saturating_add(1));
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        while self.blocked.fetch_update(set, fetch, one_more).is_ok() {
            let connection = lock(&self.kept).pop();
            let is_last = connection.is_none();
            let connection = connection.and_then(|connection| self.hand_over(connection).err());
            drop(connection);
            self.blocked.fetch_sub(1, Ordering::SeqCst);
            if is_last {
                return;
            }
        }
    }

    fn hand_over(&self, connection: OwnedFd) -> Result<(), OwnedFd> {
        let Some(closer) = &self.closer else {
            return Err(connection);
        };
        closer.close(connection).map_err(|(connection, error)| {
            if self.warning.should_log() {
                log::warn!(
                    "rejected connection cannot be handed over to the broker, and is closed here: \
                     {error}"
                );
            }
            connection
        })
    }
}
