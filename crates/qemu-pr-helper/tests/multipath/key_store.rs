// SPDX-License-Identifier: MIT OR Apache-2.0

//! multipathd, as far as it registers paths, with the behavior of three versions.
//!
//! Sources: `multipathd/main.c` (`mpath_pr_event_handle`, `update_map_pr`), `multipathd/
//! cli_handlers.c` and `libmultipath/prkey.c` of multipath-tools 0.9.4, 0.11.1 and 0.15.0.

use std::cell::RefCell;
use std::rc::Rc;

use qemu_pr_helper::multipath::pr_out::{PrKey, PrKeyStore, PrKeyStoreError};
use scsi_pr::{OutServiceAction, ReservationKey, Status};
use soft_lun::NexusId;

use crate::map::{Shared, TestCommand, execute_on_nexus};

/// Version of multipath-tools with its own behavior when a path returns or is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// Debian 12.
    V0_9_4,
    /// Debian 13.
    V0_11_1,
    /// The newest one. It counts the registrations before and after it registers a path.
    #[default]
    V0_15,
}

/// Paths that the map uses.
pub(crate) type PathsInUse = Rc<RefCell<Vec<(Shared, NexusId)>>>;

/// Key store that can reject keys, or be away.
#[derive(Default)]
pub(crate) struct TestKeyStore {
    version: Version,
    paths_in_use: PathsInUse,
    /// `reservation_key` of the map.
    key: Option<PrKey>,
    /// `prflag`: paths that return are registered.
    is_enabled: bool,
    /// `ever_registered_pr`.
    was_enabled: bool,
    /// `old_pr_key`: the key before the last change, until the change is complete.
    old_key: Option<ReservationKey>,
    pub(crate) rejects: bool,
    pub(crate) is_away: bool,
    pub(crate) is_holder: bool,
}

impl TestKeyStore {
    pub(crate) fn new(version: Version, paths_in_use: PathsInUse) -> Self {
        Self {
            version,
            paths_in_use,
            ..Self::default()
        }
    }

    /// Returns the key that paths are registered with.
    pub(crate) fn registered_key(&self) -> Option<PrKey> {
        self.key.filter(|_| self.is_enabled)
    }

    /// Stores a key as an earlier guest did.
    pub(crate) fn preset(&mut self, key: PrKey) {
        self.key = Some(key);
        self.is_enabled = true;
    }

    fn reply<T>(&self, is_rejected: bool, value: T) -> Result<T, PrKeyStoreError> {
        match self.is_away || is_rejected {
            true => Err(PrKeyStoreError("no".to_owned())),
            false => Ok(value),
        }
    }

    /// Handles a path that has returned, before the map uses it.
    pub(crate) fn path_returned(&mut self, unit: &Shared, nexus: NexusId) {
        let is_handled = match self.version {
            Version::V0_9_4 | Version::V0_11_1 => self.is_enabled,
            Version::V0_15 => self.is_enabled || self.was_enabled,
        };
        if is_handled && !self.is_away {
            self.handle_path(unit, nexus);
        }
    }

    /// Handles a path that was added to the map, before the map uses it.
    pub(crate) fn path_added(&mut self, unit: &Shared, nexus: NexusId) {
        if !self.is_away {
            self.handle_path(unit, nexus);
        }
    }

    /// Registers a path if the logical unit has a registration with the key.
    fn handle_path(&mut self, unit: &Shared, nexus: NexusId) {
        if self.version == Version::V0_15 {
            self.handle_path_counting(unit, nexus, 1);
            return;
        }
        let found = self.key.filter(|key| count(unit, &[key.key]) > 0);
        if self.version == Version::V0_11_1 {
            self.is_enabled = found.is_some();
        }
        if let Some(key) = found {
            register(unit, nexus, key);
            self.is_enabled = true;
        }
    }

    /// Registers a path if the logical unit has at least `needed` registrations with the key, and
    /// still has them after that. Otherwise removes the registration of the path.
    fn handle_path_counting(&mut self, unit: &Shared, nexus: NexusId, needed: usize) {
        let found = self.update(unit, needed);
        match self.registered_key() {
            Some(key) => {
                register(unit, nexus, key);
                self.update(unit, found);
                if !self.is_enabled {
                    unregister(unit, nexus);
                }
            }
            None if self.was_enabled => unregister(unit, nexus),
            None => {}
        }
    }

    /// Counts the registrations with the key. Disables the registration of paths if there are fewer
    /// than `needed`.
    fn update(&mut self, unit: &Shared, needed: usize) -> usize {
        let Some(key) = self.registered_key() else {
            return 0;
        };
        let keys: Vec<_> = [Some(key.key), self.old_key]
            .into_iter()
            .flatten()
            .collect();
        let found = count(unit, &keys);
        if found < needed {
            self.unset();
        }
        found
    }

    /// Stops registering paths. multipathd forgets the holder too.
    fn unset(&mut self) {
        self.is_enabled = false;
        self.is_holder = false;
        self.old_key = None;
    }
}

fn count(unit: &Shared, keys: &[ReservationKey]) -> usize {
    let unit = unit.borrow();
    let registrations = unit.registrations().iter();
    registrations.filter(|one| keys.contains(&one.key)).count()
}

fn register(unit: &Shared, nexus: NexusId, key: PrKey) {
    let mut command = TestCommand::new(
        OutServiceAction::RegisterAndIgnoreExistingKey,
        0,
        key.key.get(),
    );
    command.aptpl = key.aptpl;
    while execute_on_nexus(unit, nexus, &command).status != Status::GOOD {}
}

fn unregister(unit: &Shared, nexus: NexusId) {
    let key = ReservationKey::ZERO;
    register(unit, nexus, PrKey { key, aptpl: false });
}

impl PrKeyStore for TestKeyStore {
    fn key(&mut self) -> Result<Option<PrKey>, PrKeyStoreError> {
        self.reply(false, self.registered_key())
    }

    fn set_key(&mut self, key: PrKey) -> Result<(), PrKeyStoreError> {
        self.reply(self.rejects, ())?;
        let before = self.key.map(|before| before.key);
        self.old_key = before.filter(|_| self.old_key != Some(key.key));
        self.key = Some(key);
        Ok(())
    }

    fn enable(&mut self, _: &[String]) -> Result<(), PrKeyStoreError> {
        self.reply(self.key.is_none(), ())?;
        if self.version == Version::V0_15 && !self.is_enabled {
            self.is_enabled = true;
            self.was_enabled = true;
            let paths = self.paths_in_use.borrow().clone();
            for (unit, nexus) in &paths {
                self.handle_path_counting(unit, *nexus, 1);
            }
        }
        self.is_enabled |= self.version != Version::V0_15;
        self.old_key = None;
        Ok(())
    }

    fn disable(&mut self) -> Result<(), PrKeyStoreError> {
        self.reply(false, ())?;
        self.unset();
        self.key = None;
        Ok(())
    }

    fn is_holding(&mut self) -> Option<bool> {
        (self.version == Version::V0_15).then_some(self.is_holder)
    }

    fn set_holding(&mut self, is_holder: bool) {
        self.is_holder = is_holder;
    }
}
