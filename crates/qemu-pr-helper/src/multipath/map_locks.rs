//! One change at a time on a map. Two at once could leave its paths with different keys.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::command::device::DeviceId;

/// Who is at work.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<BTreeSet<DeviceId>>,
    given_back: Condvar,
}

/// The right to change a map, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    map: DeviceId,
}

impl Turns {
    /// Waits until nobody else changes this map; `None` if that takes longer than `patience`.
    pub(super) fn take(&self, map: DeviceId, patience: Duration) -> Option<Turn<'_>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, waited) = self
            .given_back
            .wait_timeout_while(taken, patience, |taken| taken.contains(&map))
            .unwrap_or_else(PoisonError::into_inner);
        // Not `then_some`: a turn that is made is one that is given back.
        (!waited.timed_out() && taken.insert(map)).then(|| Turn { turns: self, map })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self
            .turns
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.map);
        // All, as those who wait for another map do not count.
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_map_is_changed_by_one_at_a_time_and_others_do_not_matter() {
        let turns = Turns::default();
        let (map, other) = (DeviceId::Block(253, 0), DeviceId::Block(253, 1));
        let first = turns.take(map, Duration::ZERO).unwrap();
        assert!(turns.take(map, Duration::from_millis(10)).is_none());
        assert!(turns.take(other, Duration::ZERO).is_some());
        thread::scope(|scope| {
            let second = scope.spawn(|| turns.take(map, Duration::from_secs(60)).is_some());
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(turns.take(map, Duration::ZERO).is_some());
    }
}
