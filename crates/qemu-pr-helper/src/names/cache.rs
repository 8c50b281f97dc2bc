// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cache of names that expire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which a name is valid. A device number can belong to another disk after that.
const LIFETIME: Duration = Duration::from_secs(30);

/// Time for which it is known that there is no name, so that a client that makes the query hang
/// cannot cause the next one at once.
const MISSING_LIFETIME: Duration = Duration::from_secs(10);

/// Maximum number of names. The oldest one makes room.
const MAX_NAMES: usize = 1024;

/// Names by key.
#[derive(Debug)]
pub(super) struct Cache<K, V>(Mutex<BTreeMap<K, Entry<V>>>);

#[derive(Debug)]
struct Entry<V> {
    resolved: Instant,
    /// `None` if there is no name.
    name: Option<Arc<V>>,
}

impl<V> Entry<V> {
    fn is_valid(&self, now: Instant) -> bool {
        let lifetime = match self.name {
            Some(_) => LIFETIME,
            None => MISSING_LIFETIME,
        };
        now.duration_since(self.resolved) < lifetime
    }
}

impl<K: Copy + Ord, V> Cache<K, V> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Returns a valid name, or that there is none; the outer `None` if neither is known.
    #[expect(
        clippy::option_option,
        reason = "a known lack of a name is not unknown"
    )]
    pub(super) fn get(&self, key: K) -> Option<Option<Arc<V>>> {
        self.get_at(key, Instant::now())
    }

    #[expect(clippy::option_option, reason = "as in `get`")]
    fn get_at(&self, key: K, now: Instant) -> Option<Option<Arc<V>>> {
        let names = self.lock();
        let entry = names.get(&key).filter(|entry| entry.is_valid(now))?;
        Some(entry.name.clone())
    }

    pub(super) fn insert(&self, key: K, name: Option<Arc<V>>) {
        self.insert_at(key, name, Instant::now());
    }

    fn insert_at(&self, key: K, name: Option<Arc<V>>, now: Instant) {
        let mut names = self.lock();
        if names.len() >= MAX_NAMES && !names.contains_key(&key) {
            names.retain(|_, entry| entry.is_valid(now));
            let oldest = names.iter().min_by_key(|(_, entry)| entry.resolved);
            if names.len() >= MAX_NAMES
                && let Some(oldest) = oldest.map(|(key, _)| *key)
            {
                names.remove(&oldest);
            }
        }
        names.insert(
            key,
            Entry {
                resolved: now,
                name,
            },
        );
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Entry<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_expire() {
        let cache = Cache::new();
        let start = Instant::now();
        cache.insert_at(1, Some(Arc::new("disk")), start);
        cache.insert_at(2, None, start);
        let get = |key, after: Duration| cache.get_at(key, start + after);
        assert_eq!(get(1, LIFETIME / 2), Some(Some(Arc::new("disk"))));
        assert_eq!(get(1, LIFETIME), None);
        assert_eq!(get(2, MISSING_LIFETIME / 2), Some(None));
        assert_eq!(get(2, MISSING_LIFETIME), None);
        assert_eq!(get(3, Duration::ZERO), None);
    }

    #[test]
    fn oldest_name_makes_room() {
        let cache = Cache::new();
        let start = Instant::now();
        for key in 0..=MAX_NAMES {
            let now = start + Duration::from_micros(key as u64);
            cache.insert_at(key, Some(Arc::new(key)), now);
        }
        assert_eq!(cache.lock().len(), MAX_NAMES);
        assert_eq!(cache.get_at(0, start), None);
        assert_eq!(cache.get_at(1, start), Some(Some(Arc::new(1))));
    }
}
