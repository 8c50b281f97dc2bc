// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands of others between two path commands: multipathd registers a path, another host fences.

use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::cases::register;
use crate::map::{Map, PathState, TestCommand, execute_on_nexus};

const WERO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

#[test]
fn fencing_during_a_key_change_remains() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    // One path has the new key, the guest was informed of a failure, and another host preempts the
    // old key.
    execute_on_nexus(&map.unit, map.paths[0].nexus, &register(1, 2));
    assert_eq!(map.execute_b(&register(0, 9)).status, Status::GOOD);
    let fence = TestCommand::new(OutServiceAction::Preempt, 9, 1).with_type(WERO);
    assert_eq!(map.execute_b(&fence).status, Status::GOOD);
    assert_eq!(map.status(&register(1, 2)), Status::RESERVATION_CONFLICT);
    assert_eq!(map.keys(), [2, 0]);
}

#[test]
fn path_with_the_new_key_is_not_a_conflict() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    // The first path returned just after multipathd had received the new key; the second fails.
    execute_on_nexus(&map.unit, map.paths[0].nexus, &register(1, 2));
    map.paths[1].state = PathState::Down;
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    assert_eq!((map.keys()[0], map.stored_key()), (2, Some(2)));
    // A guest that names a wrong key gets the conflict.
    assert_eq!(map.status(&register(1, 3)), Status::RESERVATION_CONFLICT);
    assert_eq!((map.keys()[0], map.stored_key()), (2, Some(2)));
}

#[test]
fn multipathd_can_register_a_path_at_any_point() {
    let by_multipathd = || TestCommand::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, 2);
    let mut interrupted = 0;
    for number in 1..20 {
        let mut map = Map::new(2);
        assert_eq!(map.status(&register(0, 1)), Status::GOOD);
        // The second path was gone, and has returned.
        let path = map.paths[1].nexus;
        execute_on_nexus(&map.unit, path, &register(1, 0));
        let (done, status) =
            map.execute_interrupted_by(path, &register(1, 2), number, by_multipathd());
        assert_eq!(done.result.status, Status::GOOD, "before command {number}");
        assert_eq!(map.keys(), [2, 2], "before command {number}");
        interrupted += usize::from(status.is_some());
    }
    assert!(interrupted > 4, "{interrupted}");
}
