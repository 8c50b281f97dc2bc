// SPDX-License-Identifier: MIT OR Apache-2.0

//! Limits with permits: on the connections of a client process, on the commands in flight at a
//! device, on the threads that wait for a multipath map, and on those that block in a close.

use std::array::from_fn;
use std::collections::BTreeMap;
use std::ops::Deref;

use super::sync::atomic::{AtomicUsize, Ordering};
use super::sync::{Mutex, lock};
use crate::command::device::DeviceId;
use crate::command::peer::ProcessKey;
use crate::command::request_device::LimitKey;

/// Number of keys of a shard that are kept without permits, because the next command is usually for
/// one of the same devices. To remove and add a key takes four times as many instructions.
const MAX_UNUSED: usize = 16;

/// Key of a limit.
pub(crate) trait Key: Copy + Ord {
    /// Returns a number that spreads the keys over shards.
    fn index(self) -> u32 {
        0
    }
}

impl Key for ProcessKey {}

impl Key for DeviceId {}

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
pub(crate) struct Limiter<K, const SHARDS: usize> {
    max_per_key: usize,
    total: AtomicUsize,
    /// Number of permits of each key that holds any, and of up to [`MAX_UNUSED`] keys that do not.
    /// Clients can make as many keys as there are connections, so the cost of a permit must not be
    /// proportional to the number of keys.
    shards: [Mutex<BTreeMap<K, usize>>; SHARDS],
}

/// Permit of a key. Dropping it frees it.
#[derive(Debug)]
pub(crate) struct Permit<K: Key, const SHARDS: usize, L: Deref<Target = Limiter<K, SHARDS>>> {
    limiter: L,
    key: K,
}

impl<K: Key, const SHARDS: usize> Limiter<K, SHARDS> {
    pub(crate) fn new(max_per_key: usize) -> Self {
        Self {
            max_per_key,
            total: AtomicUsize::new(0),
            shards: from_fn(|_| Mutex::new(BTreeMap::new())),
        }
    }

    /// Acquires a permit; `None` if the key is at its limit.
    pub(crate) fn try_acquire<L>(limiter: L, key: K) -> Option<Permit<K, SHARDS, L>>
    where
        L: Deref<Target = Self>,
    {
        let mut shard = lock(limiter.shard(key)?);
        let count = match shard.get_mut(&key) {
            Some(count) => count,
            None => shard.entry(key).or_default(),
        };
        if *count >= limiter.max_per_key {
            return None;
        }
        *count = count.saturating_add(1);
        drop(shard);
        limiter.total.fetch_add(1, Ordering::SeqCst);
        Some(Permit { limiter, key })
    }

    /// Returns the number of permits that all keys hold.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::SeqCst)
    }

    fn shard(&self, key: K) -> Option<&Mutex<BTreeMap<K, usize>>> {
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
        let mut shard = lock(shard);
        let remaining = shard.get_mut(&self.key).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if remaining == Some(0) && shard.len() > MAX_UNUSED {
            shard.remove(&self.key);
        }
        drop(shard);
        self.limiter.total.fetch_sub(1, Ordering::SeqCst);
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
    }

    /// A client can connect from as many processes as there are connections. A linear search would
    /// make this test very slow.
    #[test]
    fn many_keys_are_cheap() {
        const KEYS: u64 = 200_000;
        let limiter = Limiter::<_, 1>::new(1);
        let acquire = |inode| Limiter::try_acquire(&limiter, ProcessKey::Pidfd(inode));
        let permits: Vec<_> = (0..KEYS).map(|inode| acquire(inode).unwrap()).collect();
        assert_eq!(limiter.total(), permits.len());
        drop(permits);
        assert_eq!(limiter.total(), 0);
        let [shard] = &limiter.shards;
        assert_eq!(lock(shard).len(), MAX_UNUSED);
    }
}
