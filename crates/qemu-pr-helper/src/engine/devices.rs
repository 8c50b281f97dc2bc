//! How many commands are in progress at which device.

use std::array::from_fn;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};

use super::sync::{Mutex, lock};
use crate::device::Number;

/// Enough that threads seldom meet at one lock, which each has for the moment that counting takes.
const PARTS: usize = 16;

/// The devices that have a command in progress.
#[derive(Debug)]
pub(super) struct Devices {
    most_commands: usize,
    hasher: RandomState,
    /// How many commands a device has; none with 0.
    parts: [Mutex<HashMap<Number, usize>>; PARTS],
}

/// A command's place at its device, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    devices: &'a Devices,
    number: Number,
}

impl Devices {
    /// Devices that may have so many commands in progress each.
    pub(super) fn new(most_commands: usize) -> Self {
        Self {
            most_commands,
            hasher: RandomState::new(),
            parts: from_fn(|_| Mutex::new(HashMap::new())),
        }
    }

    /// Takes a place at a device for a command; `None` if they are all taken.
    pub(super) fn enter(&self, number: Number) -> Option<Place<'_>> {
        let mut part = lock(self.part(number));
        let present = part.entry(number).or_default();
        if *present >= self.most_commands {
            return None;
        }
        *present = present.saturating_add(1);
        Some(Place {
            devices: self,
            number,
        })
    }

    /// How many commands are in progress, at all devices.
    pub(super) fn commands(&self) -> usize {
        let parts = self.parts.iter();
        parts.map(|part| lock(part).values().sum::<usize>()).sum()
    }

    fn part(&self, number: Number) -> &Mutex<HashMap<Number, usize>> {
        let hash = self.hasher.hash_one(number);
        let [first, ..] = &self.parts;
        let place = usize::try_from(hash).unwrap_or_default() % PARTS;
        self.parts.get(place).unwrap_or(first)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut part = lock(self.devices.part(self.number));
        if let Entry::Occupied(mut present) = part.entry(self.number) {
            match present.get().saturating_sub(1) {
                0 => {
                    present.remove();
                }
                left => *present.get_mut() = left,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_own_places_and_gets_them_back() {
        let devices = Devices::new(2);
        let (disk, other) = (Number::Block(8, 0), Number::Character(8, 0));
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
