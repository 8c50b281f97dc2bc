// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connections that use maps, so that the helper knows when the last client of a map has
//! disconnected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::command::device::DeviceId;

/// The maps that connected clients have sent commands for.
#[derive(Debug, Default)]
pub(super) struct MapUsers(Mutex<BTreeMap<DeviceId, Users>>);

/// Users of one map.
#[derive(Debug, Default)]
struct Users {
    /// Numbers of the connections.
    connections: BTreeSet<u64>,
    /// True if one of the commands was a PERSISTENT RESERVE OUT, so that multipathd may have a key.
    has_changed: bool,
}

impl MapUsers {
    /// Records that a connection sends a command for `map`.
    pub(super) fn add(&self, map: DeviceId, connection: u64) {
        self.lock()
            .entry(map)
            .or_default()
            .connections
            .insert(connection);
    }

    /// Records that a command for `map` was a PERSISTENT RESERVE OUT.
    pub(super) fn set_changed(&self, map: DeviceId) {
        if let Some(users) = self.lock().get_mut(&map) {
            users.has_changed = true;
        }
    }

    /// Removes a connection. Returns the maps that it was the last user of, if clients have changed
    /// them.
    pub(super) fn remove(&self, connection: u64) -> Vec<DeviceId> {
        let mut unused = Vec::new();
        self.lock().retain(|map, users| {
            users.connections.remove(&connection);
            let is_used = !users.connections.is_empty();
            if !is_used && users.has_changed {
                unused.push(*map);
            }
            is_used
        });
        unused
    }

    /// Returns whether a connected client has sent a command for `map`.
    pub(super) fn is_used(&self, map: DeviceId) -> bool {
        self.lock().contains_key(&map)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Users>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: DeviceId = DeviceId::Block(253, 0);
    const OTHER: DeviceId = DeviceId::Block(253, 1);

    #[test]
    fn last_user_of_a_map_is_found() {
        let users = MapUsers::default();
        users.add(MAP, 1);
        users.set_changed(MAP);
        users.add(MAP, 2);
        users.add(OTHER, 2);
        users.set_changed(OTHER);
        assert_eq!(users.remove(1), []);
        assert!(users.is_used(MAP));
        assert_eq!(users.remove(3), []);
        assert_eq!(users.remove(2), [MAP, OTHER]);
        assert!(!users.is_used(MAP));
        assert_eq!(users.remove(2), []);
    }

    #[test]
    fn unchanged_map_is_not_reported() {
        let users = MapUsers::default();
        users.add(MAP, 1);
        assert_eq!(users.remove(1), []);
        assert!(!users.is_used(MAP));
    }
}
