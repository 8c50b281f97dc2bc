//! How many commands are in progress at which device.

use std::array::from_fn;

use super::sync::{Mutex, lock};
use crate::command::request_device::LimitKey;

/// Enough that threads seldom meet at one lock, which each has for the moment that counting takes.
const PARTS: usize = 16;

/// The devices that have a command in progress.
#[derive(Debug)]
pub(super) struct Devices {
    most_commands: usize,
    /// How many commands a device has; none with 0. Mostly there are few, and never more than threads: to look at
    /// each of a sixteenth of them takes less than to hash one.
    parts: [Mutex<Vec<(LimitKey, usize)>>; PARTS],
}

/// A command's place at its device, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    devices: &'a Devices,
    key: LimitKey,
}

impl Devices {
    /// Devices that may have so many commands in progress each.
    pub(super) fn new(most_commands: usize) -> Self {
        Self {
            most_commands,
            parts: from_fn(|_| Mutex::new(Vec::new())),
        }
    }

    /// Takes a place at a device for a command; `None` if they are all taken.
    pub(super) fn enter(&self, key: LimitKey) -> Option<Place<'_>> {
        let mut part = lock(self.part(key));
        match part.iter_mut().find(|(other, _)| *other == key) {
            Some((_, commands)) if *commands >= self.most_commands => return None,
            Some((_, commands)) => *commands = commands.saturating_add(1),
            None => part.push((key, 1)),
        }
        drop(part);
        Some(Place { devices: self, key })
    }

    /// How many commands are in progress, at all devices.
    pub(super) fn commands(&self) -> usize {
        let of_part = |part: &Mutex<Vec<(LimitKey, usize)>>| -> usize {
            lock(part).iter().map(|(_, commands)| commands).sum()
        };
        self.parts.iter().map(of_part).sum()
    }

    fn part(&self, key: LimitKey) -> &Mutex<Vec<(LimitKey, usize)>> {
        let place = usize::try_from(key.index()).unwrap_or_default() % PARTS;
        let [first, ..] = &self.parts;
        self.parts.get(place).unwrap_or(first)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut part = lock(self.devices.part(self.key));
        let place = part.iter().position(|(key, _)| *key == self.key);
        let Some((place, (_, commands))) =
            place.and_then(|place| Some((place, part.get_mut(place)?)))
        else {
            return;
        };
        *commands = commands.saturating_sub(1);
        if *commands == 0 {
            part.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_own_places_and_gets_them_back() {
        let devices = Devices::new(2);
        let (disk, other) = (LimitKey::Block(8, 0), LimitKey::Character(8));
        let first = devices.enter(disk).unwrap();
        let second = devices.enter(disk).unwrap();
        assert!(devices.enter(disk).is_none());
        let elsewhere = devices.enter(other).unwrap();
        drop(first);
        let third = devices.enter(disk).unwrap();
        assert!(devices.enter(disk).is_none());
        assert_eq!(devices.commands(), 3);
        drop((second, third, elsewhere));
        for part in &devices.parts {
            assert!(lock(part).is_empty());
        }
    }
}
