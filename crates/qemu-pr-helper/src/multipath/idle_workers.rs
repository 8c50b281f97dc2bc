// SPDX-License-Identifier: MIT OR Apache-2.0

//! Workers that have executed a command and wait for another one, in the helper.
//!
//! A worker announces with [`channel::send_ready`] that it can execute another command, because
//! closing the paths of the last one can take long. Before it exits, it shuts its socket down for
//! reading, so that a request is never lost: the helper cannot send it, and starts another worker.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use super::channel::{self, WorkerState};

/// Maximum number of idle workers. Further workers exit after their command.
const MAX_IDLE: usize = 8;

/// Sockets of the workers that have sent a reply; the last used one is at the end.
#[derive(Debug, Default)]
pub(super) struct IdleWorkers(Mutex<Vec<OwnedFd>>);

impl IdleWorkers {
    /// Removes and returns the socket of a worker that is ready. Forgets those that have exited.
    pub(super) fn take(&self) -> Option<OwnedFd> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = idle.len();
        while let Some(previous) = index.checked_sub(1) {
            index = previous;
            match idle.get(index).map(channel::worker_state) {
                Some(WorkerState::Ready) => return Some(idle.remove(index)),
                Some(WorkerState::Exited) => drop(idle.remove(index)),
                Some(WorkerState::Busy) | None => {}
            }
        }
        None
    }

    /// Adds the socket of a worker that has sent a reply. Without room for it, the worker exits.
    pub(super) fn add(&self, socket: OwnedFd) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(socket);
        }
    }
}
