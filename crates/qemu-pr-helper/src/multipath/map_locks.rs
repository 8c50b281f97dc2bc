// SPDX-License-Identifier: MIT OR Apache-2.0

//! Locks that let one command at a time change a map. Two concurrent changes could leave the paths
//! of the map with different keys.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::command::device::DeviceId;

/// The maps that commands are changing.
#[derive(Debug, Default)]
pub(super) struct MapLocks {
    locked: Mutex<BTreeSet<DeviceId>>,
    released: Condvar,
}

/// Right to change a map, released on drop.
#[derive(Debug)]
pub(super) struct MapGuard<'a> {
    locks: &'a MapLocks,
    map: DeviceId,
}

impl MapLocks {
    /// Waits until no other command changes the map; `None` if that takes longer than `timeout`.
    pub(super) fn lock_timeout(&self, map: DeviceId, timeout: Duration) -> Option<MapGuard<'_>> {
        let locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut locked, wait) = self
            .released
            .wait_timeout_while(locked, timeout, |locked| locked.contains(&map))
            .unwrap_or_else(PoisonError::into_inner);
        // `then_some` would create, drop and so release a guard even if the map is not locked.
        (!wait.timed_out() && locked.insert(map)).then(|| MapGuard { locks: self, map })
    }
}

impl Drop for MapGuard<'_> {
    fn drop(&mut self) {
        let locked = self.locks.locked.lock();
        locked
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.map);
        // Wake all waiting threads, because some wait for other maps.
        self.locks.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn lock_excludes_the_same_map_only() {
        let locks = MapLocks::default();
        let (map, other) = (DeviceId::Block(253, 0), DeviceId::Block(253, 1));
        let first = locks.lock_timeout(map, Duration::ZERO).unwrap();
        assert!(locks.lock_timeout(map, Duration::from_millis(10)).is_none());
        assert!(locks.lock_timeout(other, Duration::ZERO).is_some());
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let guard = locks.lock_timeout(map, Duration::from_secs(60));
                guard.is_some()
            });
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(locks.lock_timeout(map, Duration::ZERO).is_some());
    }
}
