// SPDX-License-Identifier: MIT OR Apache-2.0

//! CLEANUP after a live migration, and forgetting the key without it. A is the source of the
//! migration and B the destination, which has taken the key and the reservation over.

use qemu_pr_helper::multipath::pr_out::PrKey;
use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::cases::register;
use crate::key_store::Version;
use crate::map::{A1, A2, Map, PathState, TestCommand, execute_on_nexus};

const WERO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// Key of the guest.
const KEY: u64 = 1;

/// Creates a map with a reservation of the guest.
fn reserved(version: Version) -> Map {
    let mut map = Map::with_paths(&[(A1, 1), (A2, 2)], version);
    assert_eq!(map.status(&register(0, KEY)), Status::GOOD);
    let reserve = TestCommand::new(OutServiceAction::Reserve, KEY, 0).with_type(WERO);
    assert_eq!(map.status(&reserve), Status::GOOD);
    map
}

/// Moves key and reservation to B, as QEMU does at the switch-over.
fn migrate(map: &Map) {
    let ignore = TestCommand::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, KEY);
    assert_eq!(map.execute_b(&ignore).status, Status::GOOD);
    let preempt = TestCommand::new(OutServiceAction::Preempt, KEY, KEY).with_type(WERO);
    assert_eq!(map.execute_b(&preempt).status, Status::GOOD);
    assert_at_destination(map);
}

/// Checks that B is the only registrant, and the holder.
fn assert_at_destination(map: &Map) {
    assert_eq!(map.keys(), [0, 0]);
    let unit = map.unit.borrow();
    assert_eq!(unit.key(map.b), Some(KEY.into()));
    assert!(unit.is_holder(map.b));
    assert_eq!(unit.reservation().map(|held| held.kind()), Some(WERO));
}

const VERSIONS: [Version; 3] = [Version::V0_9_4, Version::V0_11_1, Version::V0_15];

#[test]
fn recovered_source_path_stays_unregistered() {
    for version in VERSIONS {
        let mut map = reserved(version);
        map.toggle(1);
        migrate(&map);
        // The unit attentions of the preemption are pending on the paths of A.
        let done = map.cleanup();
        assert_eq!(done.result.status, Status::GOOD, "{version:?}");
        assert_eq!(done.warnings, Vec::<String>::new());
        assert_eq!(map.stored_key(), None);
        map.toggle(1);
        assert_at_destination(&map);
    }
}

/// The reason for CLEANUP.
#[test]
fn source_path_without_cleanup_is_registered() {
    for version in VERSIONS {
        let mut map = reserved(version);
        map.toggle(1);
        migrate(&map);
        map.toggle(1);
        assert_eq!(map.keys(), [0, KEY], "{version:?}");
    }
}

#[test]
fn source_path_registered_again_is_unregistered() {
    for version in VERSIONS {
        let mut map = reserved(version);
        map.toggle(1);
        migrate(&map);
        map.toggle(1);
        assert_eq!(map.cleanup().result.status, Status::GOOD, "{version:?}");
        assert_at_destination(&map);
    }
}

#[test]
fn cleanup_preempts_nothing_for_unreachable_paths() {
    let mut map = reserved(Version::V0_15);
    map.toggle(1);
    migrate(&map);
    // multipathd registers the path, which then fails again.
    map.toggle(1);
    map.toggle(1);
    assert_eq!(map.cleanup().result.status, Status::GOOD);
    assert_eq!(map.keys(), [0, KEY]);
    assert!(map.unit.borrow().is_holder(map.b));
    // multipathd 0.13 and later removes the registration of a path without a stored key.
    map.toggle(1);
    assert_at_destination(&map);
}

#[test]
fn cleanup_without_a_reachable_path_forgets_the_key() {
    let mut map = reserved(Version::default());
    map.toggle(0);
    map.toggle(1);
    migrate(&map);
    assert_eq!(map.cleanup().result.status, Status::CHECK_CONDITION);
    assert_eq!(map.stored_key(), None);
    map.toggle(0);
    map.toggle(1);
    assert_at_destination(&map);
}

#[test]
fn failure_to_forget_the_key_is_reported() {
    let mut map = reserved(Version::default());
    map.key_store.is_away = true;
    let done = map.cleanup();
    assert_eq!(done.result.status, Status::CHECK_CONDITION);
    assert!(
        done.warnings[0].contains("is not removed"),
        "{:?}",
        done.warnings
    );
    assert_eq!(map.keys(), [0, 0]);
}

#[test]
fn failure_of_one_path_is_reported() {
    let mut map = reserved(Version::default());
    map.paths[0].state = PathState::Busy;
    assert_eq!(map.cleanup().result.status, Status::BUSY);
    assert_eq!(map.keys(), [KEY, 0]);
    assert_eq!(map.stored_key(), None);
}

#[test]
fn cleanup_of_an_unregistered_map_changes_nothing() {
    let mut map = Map::new(2);
    assert_eq!(map.execute_b(&register(0, KEY)).status, Status::GOOD);
    assert_eq!(map.cleanup().result.status, Status::GOOD);
    assert_eq!(map.unit.borrow().registrations().len(), 1);
}

#[test]
fn cleanup_keeps_other_registrations_persistent() {
    let mut map = Map::new(2);
    let persistent = |key| TestCommand {
        aptpl: true,
        ..register(0, key)
    };
    assert_eq!(map.status(&persistent(KEY)), Status::GOOD);
    assert_eq!(map.execute_b(&persistent(KEY)).status, Status::GOOD);
    let stored = PrKey {
        key: KEY.into(),
        aptpl: true,
    };
    assert_eq!(map.key_store.registered_key(), Some(stored));
    assert_eq!(map.cleanup().result.status, Status::GOOD);
    map.unit.borrow_mut().lose_power();
    assert_eq!(map.keys(), [0, 0]);
    assert_eq!(map.unit.borrow().key(map.b), Some(KEY.into()));
}

#[test]
fn key_is_forgotten_after_a_migration() {
    for version in VERSIONS {
        let mut map = reserved(version);
        map.toggle(1);
        migrate(&map);
        assert_eq!(map.forget(), Some(KEY), "{version:?}");
        assert_eq!(map.stored_key(), None);
        map.toggle(1);
        assert_at_destination(&map);
        assert_eq!(map.forget(), None);
    }
}

#[test]
fn key_of_a_registered_path_is_kept() {
    let mut map = reserved(Version::default());
    assert_eq!(map.forget(), None);
    assert_eq!(map.keys(), [KEY; 2]);
    // Also if the guest has migrated, but multipathd has registered a path again.
    migrate(&map);
    map.toggle(1);
    map.toggle(1);
    assert_eq!(map.keys(), [0, KEY]);
    assert_eq!(map.forget(), None);
    assert_eq!(map.stored_key(), Some(KEY));
}

#[test]
fn temporary_key_of_a_path_is_kept() {
    let mut map = reserved(Version::default());
    let nexuses = [map.paths[0].nexus, map.paths[1].nexus];
    let temporary = KEY ^ u64::from_be_bytes(*b"prhelper");
    for nexus in nexuses {
        let command = register(KEY, temporary);
        assert_eq!(
            execute_on_nexus(&map.unit, nexus, &command).status,
            Status::GOOD
        );
    }
    assert_eq!(map.forget(), None);
    assert_eq!(map.stored_key(), Some(KEY));
    assert_eq!(map.keys(), [temporary; 2]);
}

#[test]
fn key_is_kept_without_an_answer() {
    for state in [PathState::Down, PathState::Busy] {
        let mut map = reserved(Version::default());
        migrate(&map);
        for path in &mut map.paths {
            path.state = state;
        }
        assert_eq!(map.forget(), None, "{state:?}");
        assert_eq!(map.stored_key(), Some(KEY), "{state:?}");
    }
    let mut map = reserved(Version::default());
    migrate(&map);
    map.paths[1].state = PathState::Busy;
    assert_eq!(map.forget(), None);
    map.key_store.is_away = true;
    map.paths[1].state = PathState::Up;
    assert_eq!(map.forget(), None);
}
