// SPDX-License-Identifier: MIT OR Apache-2.0

//! Queues of commands, one for each map. A limited number of them is executed at a time, in the
//! order of their arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::command::device::DeviceId;

/// Queues of the maps that have commands.
#[derive(Debug)]
pub(super) struct MapQueues {
    max_running: usize,
    queues: Mutex<BTreeMap<DeviceId, Queue>>,
}

/// Commands on one map.
#[derive(Debug, Default)]
struct Queue {
    running: usize,
    /// Commands that wait, or have stopped waiting.
    waiting: VecDeque<SyncSender<()>>,
}

/// Right to execute a command on a map. Dropping it passes it to the next command.
#[derive(Debug)]
pub(super) struct MapTurn<'a> {
    queues: &'a MapQueues,
    map: DeviceId,
}

impl MapQueues {
    /// Creates queues from which `max_running` commands on a map are executed at a time.
    pub(super) fn new(max_running: usize) -> Self {
        Self {
            max_running,
            queues: Mutex::default(),
        }
    }

    /// Returns the right to execute a command on the map, unless another command is executed.
    pub(super) fn try_turn(&self, map: DeviceId) -> Option<MapTurn<'_>> {
        let mut queues = self.lock();
        self.start(queues.entry(map).or_default(), map)
    }

    fn start(&self, queue: &mut Queue, map: DeviceId) -> Option<MapTurn<'_>> {
        (queue.running < self.max_running).then(|| {
            queue.running = queue.running.saturating_add(1);
            MapTurn { queues: self, map }
        })
    }

    /// Waits until a command on the map can be executed; `None` if that takes longer than
    /// `timeout`. The queue remembers a command that has stopped waiting until the end of the one
    /// that is executed.
    pub(super) fn wait(&self, map: DeviceId, timeout: Duration) -> Option<MapTurn<'_>> {
        let mut queues = self.lock();
        let queue = queues.entry(map).or_default();
        if let Some(turn) = self.start(queue, map) {
            return Some(turn);
        }
        let (sender, receiver) = sync_channel(1);
        queue.waiting.push_back(sender);
        drop(queues);
        let mut received = receiver.recv_timeout(timeout).is_ok();
        if !received {
            // With the lock, a turn is either here already, or passed to another command.
            let _queues = self.lock();
            received = receiver.try_recv().is_ok();
            drop(receiver);
        }
        received.then(|| MapTurn { queues: self, map })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MapTurn<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(&self.map) else {
            return;
        };
        while let Some(next) = queue.waiting.pop_front() {
            if next.try_send(()).is_ok() {
                return;
            }
        }
        queue.running = queue.running.saturating_sub(1);
        if queue.running == 0 {
            queues.remove(&self.map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    const MAP: DeviceId = DeviceId::Block(253, 0);
    const LONG: Duration = Duration::from_secs(60);

    /// Waits until `count` commands on the map wait.
    fn wait_for_queue(queues: &MapQueues, count: usize) {
        while queues.lock().get(&MAP).unwrap().waiting.len() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn limit_applies_to_the_same_map_only() {
        let queues = MapQueues::new(2);
        let wait = |map| queues.wait(map, Duration::ZERO);
        let turns = [wait(MAP).unwrap(), wait(MAP).unwrap()];
        assert!(wait(MAP).is_none());
        assert!(wait(DeviceId::Block(253, 1)).is_some());
        drop(turns);
        assert!(wait(MAP).is_some());
        assert!(queues.lock().is_empty());
    }

    #[test]
    fn commands_are_executed_in_order() {
        const COMMANDS: usize = 8;
        let queues = MapQueues::new(1);
        let first = queues.wait(MAP, LONG).unwrap();
        let (sender, order) = channel();
        thread::scope(|scope| {
            for index in 0..COMMANDS {
                let (sender, queues) = (sender.clone(), &queues);
                scope.spawn(move || {
                    let turn = queues.wait(MAP, LONG).unwrap();
                    sender.send(index).unwrap();
                    drop(turn);
                });
                wait_for_queue(queues, index + 1);
            }
            drop(first);
        });
        let order: Vec<_> = order.try_iter().collect();
        assert_eq!(order, (0..COMMANDS).collect::<Vec<_>>());
    }

    /// A state document can be requested any number of times while a command hangs.
    #[test]
    fn refused_turn_leaves_nothing_behind() {
        let queues = MapQueues::new(1);
        let turn = queues.try_turn(MAP).unwrap();
        assert!(queues.try_turn(MAP).is_none());
        assert!(queues.lock().get(&MAP).unwrap().waiting.is_empty());
        drop(turn);
        assert!(queues.lock().is_empty());
        assert!(queues.try_turn(MAP).is_some());
    }

    #[test]
    fn command_that_timed_out_is_skipped() {
        let queues = MapQueues::new(1);
        let first = queues.wait(MAP, LONG).unwrap();
        assert!(queues.wait(MAP, Duration::from_millis(1)).is_none());
        thread::scope(|scope| {
            let third = scope.spawn(|| queues.wait(MAP, LONG).is_some());
            wait_for_queue(&queues, 2);
            drop(first);
            assert!(third.join().unwrap());
        });
        assert!(queues.lock().is_empty());
    }
}
