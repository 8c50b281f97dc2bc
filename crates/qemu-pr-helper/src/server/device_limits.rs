//! The limit on commands in flight at each device.

use std::array::from_fn;

use super::sync::{Mutex, lock};
use crate::command::request_device::LimitKey;

/// Number of shards, which is large enough that threads seldom contend for one lock. A lock is held
/// only while commands are counted.
const SHARDS: usize = 16;

/// The commands in flight at each device.
#[derive(Debug)]
pub(super) struct DeviceLimiter {
    max_commands: usize,
    /// Devices with commands in flight, and the number of these. A shard has few entries, and never
    /// more than there are threads: a linear search is faster than a hash.
    shards: [Mutex<Vec<(LimitKey, usize)>>; SHARDS],
}

/// Permit for one command at its device. Dropping it frees it.
#[derive(Debug)]
pub(super) struct CommandPermit<'a> {
    limiter: &'a DeviceLimiter,
    key: LimitKey,
}

impl DeviceLimiter {
    /// Creates a limiter that allows `max_commands` in flight at each device.
    pub(super) fn new(max_commands: usize) -> Self {
        Self {
            max_commands,
            shards: from_fn(|_| Mutex::new(Vec::new())),
        }
    }

    /// Acquires a permit for a command; `None` if the device is at its limit.
    pub(super) fn try_acquire(&self, key: LimitKey) -> Option<CommandPermit<'_>> {
        let mut shard = lock(self.shard(key));
        match shard.iter_mut().find(|(other, _)| *other == key) {
            Some((_, commands)) if *commands >= self.max_commands => return None,
            Some((_, commands)) => *commands = commands.saturating_add(1),
            None => shard.push((key, 1)),
        }
        drop(shard);
        Some(CommandPermit { limiter: self, key })
    }

    /// Returns the number of commands in flight at all devices.
    pub(super) fn in_flight(&self) -> usize {
        let count = |shard: &Mutex<Vec<(LimitKey, usize)>>| -> usize {
            lock(shard).iter().map(|(_, commands)| commands).sum()
        };
        self.shards.iter().map(count).sum()
    }

    fn shard(&self, key: LimitKey) -> &Mutex<Vec<(LimitKey, usize)>> {
        let index = usize::try_from(key.index()).unwrap_or_default() % SHARDS;
        let [first, ..] = &self.shards;
        self.shards.get(index).unwrap_or(first)
    }
}

impl Drop for CommandPermit<'_> {
    fn drop(&mut self) {
        let mut shard = lock(self.limiter.shard(self.key));
        let index = shard.iter().position(|(key, _)| *key == self.key);
        let Some((index, (_, commands))) =
            index.and_then(|index| Some((index, shard.get_mut(index)?)))
        else {
            return;
        };
        *commands = commands.saturating_sub(1);
        if *commands == 0 {
            shard.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_separate_limits() {
        let limiter = DeviceLimiter::new(2);
        let (disk, other) = (LimitKey::Block(8, 0), LimitKey::Character(8));
        let first = limiter.try_acquire(disk).unwrap();
        let second = limiter.try_acquire(disk).unwrap();
        assert!(limiter.try_acquire(disk).is_none());
        let of_other = limiter.try_acquire(other).unwrap();
        drop(first);
        let third = limiter.try_acquire(disk).unwrap();
        assert!(limiter.try_acquire(disk).is_none());
        assert_eq!(limiter.in_flight(), 3);
        drop((second, third, of_other));
        for shard in &limiter.shards {
            assert!(lock(shard).is_empty());
        }
    }
}
