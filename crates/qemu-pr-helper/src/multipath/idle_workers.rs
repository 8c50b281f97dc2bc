// SPDX-License-Identifier: MIT OR Apache-2.0

//! Workers that have executed a command and wait for another one, in the helper.
//!
//! A worker announces with [`channel::send_ready`] that it can execute another command: after its
//! reply, it sends commands to multipathd, which can take long. Before it exits, it shuts its
//! socket down for reading, so that a request is never lost: the helper cannot send it, and starts
//! another worker.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::channel::{self, WorkerState};
use crate::command::device::DeviceId;
use crate::process::seqpacket;

/// Maximum number of idle workers. The one that has waited longest exits to make room.
const MAX_IDLE: usize = 8;

/// Time that a change to a map waits for the worker of the last change. Only a worker that hangs
/// takes longer.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// Worker that has sent a reply.
#[derive(Debug)]
pub(super) struct IdleWorker {
    pub(super) socket: OwnedFd,
    /// Map that the last request changed.
    pub(super) changed: Option<DeviceId>,
}

/// Workers that have sent a reply; the last used one is at the end.
#[derive(Debug, Default)]
pub(super) struct IdleWorkers(Mutex<Vec<IdleWorker>>);

impl IdleWorkers {
    /// Removes and returns the socket of a worker that is ready. Before a change to a map, waits
    /// for the worker of the last change to it, so that multipathd executes their commands in
    /// order.
    pub(super) fn take(&self, changed: Option<DeviceId>) -> Option<OwnedFd> {
        let last = changed.and_then(|map| self.take_last(map));
        last.filter(is_ready).or_else(|| self.take_ready())
    }

    /// Removes and returns the socket of the worker that changed the map last.
    fn take_last(&self, map: DeviceId) -> Option<OwnedFd> {
        let mut idle = self.lock();
        let index = idle
            .iter()
            .rposition(|worker| worker.changed == Some(map))?;
        Some(idle.remove(index).socket)
    }

    /// Removes and returns the socket of a worker that is ready. Forgets those that have exited.
    fn take_ready(&self) -> Option<OwnedFd> {
        let mut idle = self.lock();
        let mut index = idle.len();
        while let Some(previous) = index.checked_sub(1) {
            index = previous;
            let worker = idle.get(index);
            match worker.map(|worker| channel::worker_state(&worker.socket)) {
                Some(WorkerState::Ready) => return Some(idle.remove(index).socket),
                Some(WorkerState::Exited) => drop(idle.remove(index)),
                Some(WorkerState::Busy) | None => {}
            }
        }
        None
    }

    /// Adds a worker that has sent a reply. Without room for it, the one that has waited longest
    /// exits.
    pub(super) fn add(&self, worker: IdleWorker) {
        let mut idle = self.lock();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(worker);
    }

    /// Returns the number of workers.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.lock().len()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IdleWorker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a worker is ready. Returns false if it hangs or has exited; it is not used again.
fn is_ready(socket: &OwnedFd) -> bool {
    let mut state = channel::worker_state(socket);
    if state == WorkerState::Busy
        && matches!(seqpacket::wait_readable(socket, READY_TIMEOUT), Ok(true))
    {
        state = channel::worker_state(socket);
    }
    state == WorkerState::Ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const MAP: DeviceId = DeviceId::Block(253, 0);

    /// Adds a worker. Returns its end of the channel.
    fn add(idle: &IdleWorkers, changed: Option<DeviceId>) -> OwnedFd {
        let (socket, worker) = seqpacket::pair().unwrap();
        idle.add(IdleWorker { socket, changed });
        worker
    }

    #[test]
    fn change_waits_for_the_worker_of_the_last_one() {
        let idle = IdleWorkers::default();
        let (last, other) = (add(&idle, Some(MAP)), add(&idle, None));
        channel::send_ready(&other).unwrap();
        thread::scope(|scope| {
            let taken = scope.spawn(|| idle.take(Some(MAP)).unwrap());
            while idle.lock().len() > 1 {
                thread::yield_now();
            }
            channel::send_ready(&last).unwrap();
            channel::close(&taken.join().unwrap()).unwrap();
        });
        assert!(channel::send_ready(&last).is_err());
        assert!(idle.take(None).is_some());
        assert!(idle.take(None).is_none());
    }

    #[test]
    fn other_maps_and_reads_do_not_wait() {
        let idle = IdleWorkers::default();
        let _last = add(&idle, Some(MAP));
        assert!(idle.take(Some(DeviceId::Block(253, 1))).is_none());
        assert!(idle.take(None).is_none());
        assert_eq!(idle.lock().len(), 1);
    }

    #[test]
    fn worker_that_does_not_become_ready_is_replaced() {
        let idle = IdleWorkers::default();
        let (hanging, other) = (add(&idle, Some(MAP)), add(&idle, None));
        channel::send_ready(&other).unwrap();
        assert!(idle.take(Some(MAP)).is_some());
        assert!(channel::send_ready(&hanging).is_err());
    }

    #[test]
    fn worker_that_waited_longest_makes_room() {
        let idle = IdleWorkers::default();
        let workers: Vec<_> = (0..=MAX_IDLE).map(|_| add(&idle, None)).collect();
        let are_kept: Vec<_> = workers
            .iter()
            .map(|worker| channel::send_ready(worker).is_ok())
            .collect();
        assert_eq!(are_kept, [&[false][..], &[true; MAX_IDLE]].concat());
    }
}
