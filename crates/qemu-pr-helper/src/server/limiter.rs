//! Limits with permits: on the connections of a client process, on the commands in flight at a
//! device, and on the threads that block in a close.

use std::array::from_fn;
use std::ops::Deref;

use super::sync::{Mutex, lock};
use crate::command::peer::ProcessKey;
use crate::command::request_device::LimitKey;

/// Key of a limit.
pub(super) trait Key: Copy + Eq {
    /// Returns a number that spreads the keys over shards.
    fn index(self) -> u32 {
        0
    }
}

impl Key for ProcessKey {}

impl Key for () {}

impl Key for LimitKey {
    fn index(self) -> u32 {
        match self {
            // The minor numbers of whole SCSI disks are multiples of 16.
            Self::Block(_, minor) => minor ^ (minor >> 4),
            Self::Sg(number) | Self::Character(number) => number,
            Self::SoftLuns => 1,
            Self::Other => 0,
        }
    }
}

/// Number of permits that each key holds, in shards so that threads seldom contend for one lock.
#[derive(Debug)]
pub(super) struct Limiter<K, const SHARDS: usize> {
    max_per_key: usize,
    /// Keys that hold permits. They are few, never more than threads or client processes: a linear
    /// search is faster than a hash.
    shards: [Mutex<Vec<(K, usize)>>; SHARDS],
}

/// Permit of a key. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Permit<K: Key, const SHARDS: usize, L: Deref<Target = Limiter<K, SHARDS>>> {
    limiter: L,
    key: K,
}

impl<K: Key, const SHARDS: usize> Limiter<K, SHARDS> {
    pub(super) fn new(max_per_key: usize) -> Self {
        Self {
            max_per_key,
            shards: from_fn(|_| Mutex::new(Vec::new())),
        }
    }

    /// Acquires a permit; `None` if the key is at its limit.
    pub(super) fn try_acquire<L>(limiter: L, key: K) -> Option<Permit<K, SHARDS, L>>
    where
        L: Deref<Target = Self>,
    {
        let mut shard = lock(limiter.shard(key)?);
        match shard.iter_mut().find(|(other, _)| *other == key) {
            Some((_, count)) if *count >= limiter.max_per_key => return None,
            Some((_, count)) => *count = count.saturating_add(1),
            None => shard.push((key, 1)),
        }
        drop(shard);
        Some(Permit { limiter, key })
    }

    /// Returns the number of permits that all keys hold.
    pub(super) fn total(&self) -> usize {
        let count = |shard: &Mutex<Vec<(K, usize)>>| -> usize {
            lock(shard).iter().map(|(_, count)| count).sum()
        };
        self.shards.iter().map(count).sum()
    }

    fn shard(&self, key: K) -> Option<&Mutex<Vec<(K, usize)>>> {
        let index = usize::try_from(key.index()).unwrap_or_default();
        self.shards.get(index.checked_rem(SHARDS)?)
    }
}

impl<K: Key, const SHARDS: usize, L: Deref<Target = Limiter<K, SHARDS>>> Drop
    for Permit<K, SHARDS, L>
{
    fn drop(&mut self) {
        let Some(shard) = self.limiter.shard(self.key) else {
            return;
        };
        lock(shard).retain_mut(|(key, count)| {
            if *key == self.key {
                *count = count.saturating_sub(1);
            }
            *count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_separate_limits() {
        let limiter = Limiter::<_, 16>::new(2);
        let acquire = |key| Limiter::try_acquire(&limiter, key);
        let (disk, other) = (LimitKey::Block(8, 0), LimitKey::Character(8));
        let first = acquire(disk).unwrap();
        let second = acquire(disk).unwrap();
        assert!(acquire(disk).is_none());
        let of_other = acquire(other).unwrap();
        assert_eq!(limiter.total(), 3);
        drop(first);
        let third = acquire(disk).unwrap();
        assert!(acquire(disk).is_none());
        assert_eq!(limiter.total(), 3);
        drop((second, third, of_other));
        assert_eq!(limiter.total(), 0);
        for shard in &limiter.shards {
            assert!(lock(shard).is_empty());
        }
    }
}
