//! Limits on connections, in total and for each client process.
//!
//! A permit is held from accept(2) until the kernel has released the connection and every
//! descriptor that the client sent over it. Closing a descriptor can block for as long as its owner
//! likes, so a connection that counted only while it is served would be no limit at all.

use std::collections::HashMap;
use std::sync::Arc;

use super::sync::{Mutex, lock};
use crate::command::peer::ProcessKey;

/// Connections that hold a permit.
#[derive(Debug)]
pub(super) struct ConnectionPermits {
    max_per_process: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Connections of each process; a process without any has no entry.
    per_process: HashMap<ProcessKey, usize>,
}

/// The right to hold a connection. Dropping it releases the right, so it is dropped after the
/// connection: last in a struct, as fields are dropped in the order of their declaration.
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
            held: Mutex::new(Held::default()),
        })
    }

    /// Returns how many connections hold a permit.
    pub(super) fn total(&self) -> usize {
        lock(&self.held).total
    }

    /// Acquires a permit for a connection of `process`; `None` if the process holds as many as it can.
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
    fn process_gets_its_share_back() {
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
