// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations of the paths that a command reports, and the check of paths.

use helper_state::PathRegistration::{NotRegistered, Registered, Unknown};
use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::cases::register;
use crate::map::{Map, PathState, TestCommand};

const KEY: u64 = 1;
const OTHER_KEY: u64 = 2;

/// Registers the first path. The second one is down meanwhile, and multipathd does not notice it.
fn half_registered() -> Map {
    let mut map = Map::new(2);
    map.paths[1].state = PathState::Down;
    let done = map.execute(&register(0, KEY));
    assert_eq!(done.result.status, Status::GOOD);
    assert_eq!(done.registrations, [Registered, NotRegistered]);
    map.paths[1].state = PathState::Up;
    map
}

#[test]
fn register_reports_each_path() {
    let mut map = half_registered();
    assert_eq!(
        map.execute(&register(KEY, KEY)).registrations,
        [Registered; 2]
    );
    // The path may still be registered.
    map.paths[1].state = PathState::Down;
    let again = map.execute(&register(KEY, KEY));
    assert_eq!(again.registrations, [Registered, Unknown]);
    let unregistered = map.execute(&register(KEY, 0));
    assert_eq!(unregistered.registrations, [NotRegistered; 2]);
}

#[test]
fn other_commands_report_no_registration() {
    let mut map = half_registered();
    let reserve = TestCommand::new(OutServiceAction::Reserve, KEY, 0)
        .with_type(ReservationType::WriteExclusiveRegistrantsOnly);
    let conflict = register(OTHER_KEY, KEY);
    for (command, status) in [
        (reserve, Status::GOOD),
        (conflict, Status::RESERVATION_CONFLICT),
    ] {
        let done = map.execute(&command);
        assert_eq!(
            (done.result.status, done.registrations),
            (status, Vec::new())
        );
    }
}

#[test]
fn release_for_a_holder_that_is_gone_unregisters_it() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, KEY)), Status::GOOD);
    let command = |action| {
        TestCommand::new(action, KEY, 0).with_type(ReservationType::WriteExclusiveRegistrantsOnly)
    };
    assert_eq!(
        map.status(&command(OutServiceAction::Reserve)),
        Status::GOOD
    );
    map.paths[0].state = PathState::Down;
    let released = map.execute(&command(OutServiceAction::Release));
    assert_eq!(released.result.status, Status::GOOD);
    assert_eq!(map.keys(), [0, KEY]);
    assert_eq!(released.registrations, [NotRegistered, Registered]);
}

#[test]
fn check_follows_multipathd() {
    let mut map = half_registered();
    let generation = map.unit.borrow().generation();
    assert_eq!(map.check_others().unwrap(), [NotRegistered]);
    assert_eq!(map.keys(), [KEY, 0]);
    assert_eq!(map.unit.borrow().generation(), generation);
    map.paths[1].state = PathState::Down;
    assert_eq!(map.check_others().unwrap(), [Unknown]);
    map.toggle(1);
    assert_eq!(map.check_others().unwrap(), [Registered]);
    assert_eq!(map.keys(), [KEY; 2]);
    assert_eq!(map.paths[0].sent, half_registered().paths[0].sent);
}

#[test]
fn check_of_a_map_that_is_not_registered_reports_nothing() {
    let mut map = half_registered();
    assert_eq!(map.execute_b(&register(0, OTHER_KEY)).status, Status::GOOD);
    let preempt = TestCommand::new(OutServiceAction::Preempt, OTHER_KEY, KEY)
        .with_type(ReservationType::WriteExclusiveRegistrantsOnly);
    assert_eq!(map.execute_b(&preempt).status, Status::GOOD);
    assert_eq!(map.check_others(), None);
    assert_eq!(map.keys(), [0, 0]);
}

/// multipathd can lose the key while a path is not registered, which the operator must still see.
#[test]
fn check_without_a_key_shows_nothing() {
    assert_eq!(Map::new(2).check_others().unwrap(), [Unknown]);
}

#[test]
fn check_keeps_the_registrations_persistent() {
    let persistent = TestCommand {
        aptpl: true,
        ..register(0, KEY)
    };
    let mut map = Map::new(2);
    assert_eq!(map.status(&persistent), Status::GOOD);
    assert_eq!(map.check_others().unwrap(), [Registered]);
    assert!(map.unit.borrow().aptpl());
}
