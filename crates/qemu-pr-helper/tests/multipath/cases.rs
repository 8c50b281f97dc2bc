// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths that fail, that have different keys, or that do not follow; and failures of the key store.

use qemu_pr_helper::multipath::pr_out::{PrKey, PrOutResult, execute};
use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::key_store::{TestKeyStore, Version};
use crate::map::{A1, A2, Map, PathState, TestCommand, TestPath, execute_on_nexus, format_result};

const WERO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

pub(crate) const fn register(key: u64, new: u64) -> TestCommand {
    TestCommand::new(OutServiceAction::Register, key, new)
}

const fn reserve(key: u64) -> TestCommand {
    TestCommand::new(OutServiceAction::Reserve, key, 0).with_type(WERO)
}

const fn release(key: u64) -> TestCommand {
    TestCommand::new(OutServiceAction::Release, key, 0).with_type(WERO)
}

/// Creates a map that is registered with key 1. Its first path holds the reservation and is down.
fn held_by_down_path() -> Map {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    assert_eq!(map.execute_b(&register(0, 9)).status, Status::GOOD);
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    map.toggle(0);
    map
}

/// Returns the warnings, one a line.
fn warnings(done: &PrOutResult) -> String {
    done.warnings.join("\n")
}

#[test]
fn holder_on_a_down_path_can_reserve_again() {
    let mut map = held_by_down_path();
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    let other = TestCommand::new(OutServiceAction::Reserve, 1, 0)
        .with_type(ReservationType::WriteExclusive);
    assert_eq!(map.status(&other), Status::RESERVATION_CONFLICT);
    let longer = TestCommand {
        length: Some(25),
        ..reserve(1)
    };
    assert_eq!(map.status(&longer), Status::RESERVATION_CONFLICT);
    assert_eq!(
        map.execute_b(&reserve(9)).status,
        Status::RESERVATION_CONFLICT
    );
}

#[test]
fn unregistration_reports_a_pending_attention() {
    let mut map = registered();
    let clear = TestCommand::new(OutServiceAction::Clear, 9, 0);
    assert_eq!(map.execute_b(&clear).status, Status::GOOD);
    let unregister = TestCommand {
        all_tg_pt: true,
        named: Some(2),
        ..register(1, 0)
    };
    let attention = "CHECK CONDITION UNIT ATTENTION, RESERVATIONS PREEMPTED (6/2a/03)";
    assert_eq!(format_result(&map.execute(&unregister).result), attention);
    assert_eq!(map.status(&unregister), Status::RESERVATION_CONFLICT);
}

#[test]
fn reservation_with_a_lost_reply_is_kept() {
    for other in [PathState::Up, PathState::Down] {
        let mut map = registered();
        map.paths[0].state = PathState::FailsAfter(1);
        map.paths[1].state = other;
        let expected = match other {
            PathState::Up => Status::GOOD,
            _ => Status::CHECK_CONDITION,
        };
        assert_eq!(map.status(&reserve(1)), expected);
        map.paths[1].state = PathState::Up;
        assert_eq!(map.status(&reserve(1)), Status::GOOD, "{other:?}");
        assert_eq!(map.status(&release(1)), Status::GOOD, "{other:?}");
        assert_eq!(map.reserved(), None, "{other:?}");
    }
}

/// Another host has the same key and holds the reservation, which multipathd knows.
#[test]
fn reservation_of_another_host_is_not_taken_over() {
    for (command, expected) in [
        (reserve(1), Status::RESERVATION_CONFLICT),
        (release(1), Status::GOOD),
        (register(1, 2), Status::GOOD),
        (register(1, 0), Status::GOOD),
        (ignore(2), Status::GOOD),
        (ignore(0), Status::GOOD),
    ] {
        let mut map = Map::new(2);
        map.toggle(0);
        assert_eq!(map.status(&register(0, 1)), Status::GOOD);
        assert_eq!(map.execute_b(&register(0, 1)).status, Status::GOOD);
        assert_eq!(map.execute_b(&reserve(1)).status, Status::GOOD);
        assert_eq!(map.status(&command), expected, "{command:?}");
        let unit = map.unit.borrow();
        let holder = unit.reservation().and_then(|held| held.holder());
        assert_eq!(holder, Some(map.b), "{command:?}");
        assert_eq!(unit.key(map.b), Some(1.into()), "{command:?}");
    }
}

#[test]
fn reservation_of_a_down_path_is_released() {
    let mut map = held_by_down_path();
    let wrong = TestCommand::new(OutServiceAction::Release, 1, 0)
        .with_type(ReservationType::WriteExclusive);
    assert_eq!(
        format_result(&map.execute(&wrong).result),
        "CHECK CONDITION ILLEGAL REQUEST, INVALID RELEASE OF PERSISTENT RESERVATION (5/26/04)"
    );
    assert_eq!(map.reserved(), Some(WERO));
    let done = map.execute(&release(1));
    assert_eq!((done.result.status, done.warnings), (Status::GOOD, vec![]));
    assert_eq!(map.reserved(), None);
    // B keeps its registration, and multipathd can register the path again.
    assert_eq!(map.unit.borrow().key(map.b), Some(9.into()));
    assert_eq!(map.keys(), [0, 1]);
    map.toggle(0);
    assert_eq!(map.keys(), [1, 1]);
}

#[test]
fn new_key_takes_over_the_reservation_of_a_down_path() {
    let mut map = held_by_down_path();
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    assert!(map.is_holder(2));
    assert_eq!(map.reserved(), Some(WERO));
}

#[test]
fn unregister_removes_the_key_of_a_down_path() {
    let mut map = held_by_down_path();
    let done = map.execute(&register(1, 0));
    assert_eq!((done.result.status, done.warnings), (Status::GOOD, vec![]));
    assert_eq!((map.keys(), map.reserved()), (vec![0, 0], None));
    assert_eq!(map.unit.borrow().key(map.b), Some(9.into()));
    assert_eq!(map.stored_key(), None);
}

#[test]
fn key_shared_with_another_host_is_not_preempted() {
    let mut map = held_by_down_path();
    assert_eq!(map.execute_b(&register(9, 1)).status, Status::GOOD);
    let done = map.execute(&register(1, 0));
    assert_eq!(done.result.status, Status::GOOD);
    assert!(
        warnings(&done).contains("registrations with key"),
        "{done:?}"
    );
    assert_eq!(map.keys(), [1, 0]);
    assert_eq!(map.unit.borrow().key(map.b), Some(1.into()));
}

#[test]
fn path_with_another_key_is_registered() {
    let mut map = Map::new(2);
    execute_on_nexus(&map.unit, map.paths[1].nexus, &register(0, 7));
    let done = map.execute(&register(0, 1));
    assert_eq!((done.result.status, done.warnings), (Status::GOOD, vec![]));
    assert_eq!((map.keys(), map.stored_key()), (vec![1, 1], Some(1)));
    // The other key is not the guest's.
    execute_on_nexus(&map.unit, map.paths[0].nexus, &register(1, 7));
    assert_eq!(map.status(&register(7, 2)), Status::RESERVATION_CONFLICT);
    assert_eq!((map.keys(), map.stored_key()), (vec![7, 1], Some(1)));
    let ignore = TestCommand::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, 2);
    assert_eq!(map.status(&ignore), Status::GOOD);
    assert_eq!((map.keys(), map.stored_key()), (vec![2, 2], Some(2)));
}

#[test]
fn interrupted_registration_is_completed_by_retry() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    // A worker was killed after it had registered one path with the new key.
    execute_on_nexus(&map.unit, map.paths[0].nexus, &register(1, 2));
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    assert_eq!(map.keys(), [2, 2]);
    // A path returned while multipathd was not running.
    execute_on_nexus(&map.unit, map.paths[0].nexus, &register(2, 0));
    assert_eq!(map.status(&register(2, 3)), Status::GOOD);
    assert_eq!(map.keys(), [3, 3]);
}

#[test]
fn rejection_by_one_path_rolls_back_all() {
    for before in [0, 1] {
        let mut map = Map::new(2);
        map.status(&register(0, before));
        map.paths[1].state = PathState::Busy;
        let done = map.execute(&register(before, 2));
        assert_eq!(done.result.status, Status::BUSY);
        assert_eq!(map.keys(), [before, before]);
        assert_eq!(map.stored_key(), (before != 0).then_some(before));
    }
}

#[test]
fn without_multipathd_only_unregister_succeeds() {
    let mut map = Map::new(2);
    map.key_store.is_away = true;
    let done = map.execute(&register(0, 1));
    assert_eq!(
        format_result(&done.result),
        "CHECK CONDITION ABORTED COMMAND, LOGICAL UNIT COMMUNICATION FAILURE (b/08/00)"
    );
    assert!(
        warnings(&done).contains("registration rejected"),
        "{done:?}"
    );
    assert_eq!(map.paths.iter().map(|path| path.sent).sum::<usize>(), 0);

    map.key_store.is_away = false;
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    map.key_store.is_away = true;
    let done = map.execute(&register(1, 0));
    assert_eq!(done.result.status, Status::GOOD);
    assert_eq!(map.keys(), [0, 0]);
    assert!(warnings(&done).contains("may register paths"), "{done:?}");
}

#[test]
fn key_rejected_by_multipathd_is_not_registered() {
    let mut map = Map::new(2);
    map.key_store.rejects = true;
    let done = map.execute(&register(0, 1));
    assert_eq!(done.result.status, Status::CHECK_CONDITION);
    assert_eq!((map.keys(), map.stored_key()), (vec![0, 0], None));
}

#[test]
fn without_a_path_nothing_changes() {
    for command in [register(0, 1), reserve(1), release(1)] {
        let mut map = Map::new(2);
        map.toggle(0);
        map.toggle(1);
        let done = map.execute(&command);
        assert_eq!(
            format_result(&done.result),
            "CHECK CONDITION ABORTED COMMAND, I_T NEXUS LOSS OCCURRED (b/29/07)"
        );
        assert_eq!((map.keys(), map.stored_key()), (vec![0, 0], None));
    }
    let done = execute::<TestPath, _>(&mut [], &mut TestKeyStore::default(), &[0x5f; 16], &[]);
    assert_eq!(done.result.status, Status::CHECK_CONDITION);
}

#[test]
fn multipathd_receives_the_holder() {
    let mut map = Map::new(2);
    map.status(&register(0, 1));
    map.status(&reserve(1));
    assert!(map.key_store.is_holder);
    map.status(&release(1));
    assert!(!map.key_store.is_holder);
    map.execute_b(&register(0, 9));
    map.execute_b(&reserve(9));
    map.status(&TestCommand::new(OutServiceAction::Preempt, 1, 9).with_type(WERO));
    assert!(map.key_store.is_holder);
}

/// LIO completes RELEASE with GOOD on a nexus that holds nothing, even with a wrong key, and with
/// RESERVATION CONFLICT on the holder if the key or the type is wrong.
#[test]
fn release_rejected_by_the_holder_is_rejected() {
    use OutServiceAction as Action;
    let kind = ReservationType::WriteExclusive;
    let reserve = TestCommand::new(Action::Reserve, 1, 0).with_type(kind);
    let wrong_key = TestCommand::new(Action::Release, 7, 0).with_type(kind);
    let wrong_type =
        TestCommand::new(Action::Release, 1, 0).with_type(ReservationType::ExclusiveAccess);
    for release in [wrong_key, wrong_type] {
        let mut map = Map::new(2);
        assert_eq!(
            map.status(&TestCommand::new(Action::Register, 0, 1)),
            Status::GOOD
        );
        map.paths[0].state = PathState::RejectRelease(Status::RESERVATION_CONFLICT);
        map.paths[1].state = PathState::RejectRelease(Status::GOOD);
        // Nothing is reserved: the path that rejects RELEASE is not registered with the key.
        assert_eq!(map.status(&release), Status::GOOD);
        assert_eq!(map.status(&reserve), Status::GOOD);
        assert_eq!(map.status(&release), Status::RESERVATION_CONFLICT);
    }
    // A cannot release the reservation of B.
    let mut map = Map::new(2);
    assert_eq!(
        map.status(&TestCommand::new(Action::Register, 0, 1)),
        Status::GOOD
    );
    map.execute_b(&TestCommand::new(Action::Register, 0, 2));
    map.execute_b(&TestCommand::new(Action::Reserve, 2, 0).with_type(kind));
    map.paths[0].state = PathState::RejectRelease(Status::RESERVATION_CONFLICT);
    map.paths[1].state = PathState::RejectRelease(Status::GOOD);
    let release = TestCommand::new(Action::Release, 1, 0).with_type(kind);
    assert_eq!(map.status(&release), Status::GOOD);
}

const fn ignore(new: u64) -> TestCommand {
    TestCommand::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, new)
}

const fn preempt(key: u64, victim: u64) -> TestCommand {
    TestCommand::new(OutServiceAction::Preempt, key, victim).with_type(WERO)
}

/// Creates a map on which A is registered with key 1 on both paths, and B with key 9.
fn registered() -> Map {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    assert_eq!(map.execute_b(&register(0, 9)).status, Status::GOOD);
    map
}

#[test]
fn fencing_between_two_paths_fences_both() {
    let clear = TestCommand::new(OutServiceAction::Clear, 9, 0);
    for (command, fence) in [
        (register(1, 1), preempt(9, 1)),
        (ignore(1), preempt(9, 1)),
        (register(1, 2), preempt(9, 1)),
        (register(1, 2), preempt(9, 2)),
        (register(1, 2), clear),
    ] {
        let mut map = registered();
        // Command 1 reads from the second path, command 2 changes the first one.
        let (done, fenced) = map.execute_interrupted(&command, 3, fence.clone());
        assert_eq!(fenced, Some(Status::GOOD), "{command:?} {fence:?}");
        assert_eq!(map.keys(), [0, 0], "{command:?} {fence:?} {done:?}");
        assert_eq!(map.stored_key(), None);
    }
}

/// While one path has the temporary key, the other host's PREEMPT does not reach it.
#[test]
fn fencing_during_preempt_of_the_own_key_fences_both_paths() {
    const RESERVED_TYPE: u8 = 2;
    let mut count = 0;
    for (number, kind) in
        (1..24).flat_map(|number| [(number, WERO.code()), (number, RESERVED_TYPE)])
    {
        let mut map = registered();
        assert_eq!(map.status(&reserve(1)), Status::GOOD);
        let command = TestCommand {
            kind,
            ..preempt(1, 1)
        };
        let (done, fenced) = map.execute_interrupted(&command, number, preempt(9, 1));
        if let Some(status) = fenced {
            assert_eq!(status, Status::GOOD);
            assert_eq!(map.keys(), [0, 0], "{number} {kind} {done:?}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn undelivered_command_is_retried() {
    let mut map = Map::new(2);
    map.paths[1].state = PathState::Fails(1);
    let done = map.execute(&register(0, 1));
    assert_eq!((done.result.status, done.warnings), (Status::GOOD, vec![]));
    assert_eq!(map.keys(), [1, 1]);
}

/// The path that fails has registered the other one, which leads from the same initiator port.
#[test]
fn all_tg_pt_with_a_lost_reply_is_no_conflict() {
    let with_all_tg_pt = |command| TestCommand {
        all_tg_pt: true,
        ..command
    };
    let mut map = Map::with_paths(&[(A1, 1), (A1, 2)], Version::default());
    map.paths[0].state = PathState::FailsAfter(1);
    assert_eq!(map.status(&with_all_tg_pt(register(0, 1))), Status::GOOD);
    assert_eq!((map.keys(), map.stored_key()), (vec![1, 1], Some(1)));

    // READ RESERVATION and READ KEYS come first.
    map.paths[0].state = PathState::FailsAfter(3);
    assert_eq!(map.status(&with_all_tg_pt(register(1, 0))), Status::GOOD);
    assert_eq!((map.keys(), map.stored_key()), (vec![0, 0], None));

    // The third path has a key that was not registered through the map.
    let paths = [(A1, 1), (A1, 2), (A2, 1)];
    let mut map = Map::with_paths(&paths, Version::default());
    assert_eq!(map.status(&register(0, 2)), Status::GOOD);
    execute_on_nexus(&map.unit, map.paths[2].nexus, &register(2, 7));
    map.paths[0].state = PathState::FailsAfter(1);
    assert_eq!(map.status(&with_all_tg_pt(register(2, 1))), Status::GOOD);
    assert_eq!(map.keys(), [1, 1, 1]);
}

/// The path returns after the last attempt, before multipathd has noticed the failure.
#[test]
fn path_that_returns_meanwhile_is_registered() {
    let mut map = Map::new(2);
    map.paths[1].state = PathState::Fails(3);
    let done = map.execute(&register(0, 1));
    assert_eq!((done.result.status, done.warnings), (Status::GOOD, vec![]));
    assert_eq!((map.keys(), map.stored_key()), (vec![1, 1], Some(1)));
}

#[test]
fn path_that_remains_in_use_must_be_registered() {
    let mut map = Map::new(2);
    map.paths[1].state = PathState::FailsOut;
    assert_eq!(map.status(&register(0, 1)), Status::CHECK_CONDITION);
    assert_eq!((map.keys(), map.stored_key()), (vec![0, 0], None));
}

#[test]
fn unreachable_path_is_named() {
    let mut map = Map::new(2);
    map.toggle(1);
    let done = map.execute(&register(0, 1));
    assert_eq!(done.result.status, Status::GOOD);
    assert!(
        warnings(&done).contains("path NexusId(1) unreachable"),
        "{done:?}"
    );
    map.toggle(1);
    assert_eq!(map.keys(), [1, 1]);
}

#[test]
fn lost_reply_is_not_reported_as_a_conflict() {
    for command in [
        preempt(1, 9),
        TestCommand::new(OutServiceAction::Clear, 1, 0),
    ] {
        let mut map = registered();
        map.paths[0].state = PathState::LoseReply;
        let done = map.execute(&command);
        assert_eq!(done.result.status, Status::CHECK_CONDITION, "{command:?}");
        assert_eq!(map.unit.borrow().key(map.b), None);
    }
}

#[test]
fn old_key_of_a_down_path_is_removed() {
    let mut map = registered();
    map.toggle(0);
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    while map.execute_b(&preempt(9, 2)).status != Status::GOOD {}
    map.paths[0].state = PathState::Up;
    assert_eq!(map.keys(), [0, 0]);
}

#[test]
fn unregister_on_a_busy_path_is_busy() {
    let mut map = registered();
    map.paths[1].state = PathState::Busy;
    assert_eq!(map.status(&register(1, 0)), Status::BUSY);
    map.paths[1].state = PathState::Up;
    // The guest retries.
    assert_eq!(map.status(&register(1, 0)), Status::GOOD);
    assert_eq!(map.keys(), [0, 0]);
}

#[test]
fn state_of_a_removed_path_is_named() {
    let mut map = registered();
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    let first = map.paths.remove(0);
    let done = map.execute(&release(1));
    assert!(warnings(&done).contains("removed path"), "{done:?}");
    let done = map.execute(&register(1, 0));
    assert!(warnings(&done).contains("removed paths"), "{done:?}");
    assert_eq!(map.unit.borrow().key(first.nexus), Some(1.into()));
}

#[test]
fn key_of_multipathd_causes_no_preemption() {
    let mut map = registered();
    let key = 9.into();
    map.key_store.preset(PrKey { key, aptpl: false });
    map.toggle(0);
    let done = map.execute(&ignore(0));
    assert!(
        warnings(&done).contains("may still be registered"),
        "{done:?}"
    );
    assert_eq!(map.unit.borrow().key(map.b), Some(key));
}

#[test]
fn failed_registration_keeps_reservation_and_aptpl() {
    let mut map = Map::new(2);
    let mut command = register(0, 1);
    command.aptpl = true;
    assert_eq!(map.status(&command), Status::GOOD);
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    map.paths[1].state = PathState::Busy;
    assert_eq!(map.status(&register(1, 2)), Status::BUSY);
    assert_eq!(map.status(&ignore(2)), Status::BUSY);
    assert_eq!((map.keys(), map.reserved()), (vec![1, 1], Some(WERO)));
    assert!(map.unit.borrow().aptpl());
}

#[test]
fn failed_registration_over_an_unknown_key_is_named() {
    let mut map = registered();
    let key = 2.into();
    map.key_store.preset(PrKey { key, aptpl: false });
    map.paths[1].state = PathState::Busy;
    let done = map.execute(&ignore(2));
    assert_eq!(done.result.status, Status::BUSY);
    assert!(
        warnings(&done).contains("is registered with key 0x2 although"),
        "{done:?}"
    );
}

#[test]
fn register_of_key_zero_by_key_zero_is_no_change() {
    let mut map = registered();
    execute_on_nexus(&map.unit, map.paths[0].nexus, &register(1, 0));
    assert_eq!(map.status(&register(0, 0)), Status::GOOD);
    assert_eq!((map.keys(), map.stored_key()), (vec![0, 1], Some(1)));
}

#[test]
fn unregistered_path_does_not_decide() {
    let mut map = registered();
    map.paths[0].state = PathState::NotRegistered;
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    assert_eq!(map.status(&release(1)), Status::GOOD);
    assert_eq!(map.reserved(), None);
    // If no path is registered, the guest gets their result.
    map.paths[1].state = PathState::NotRegistered;
    assert_eq!(
        format_result(&map.execute(&reserve(1)).result),
        "CHECK CONDITION NOT READY, LOGICAL UNIT COMMUNICATION FAILURE (2/08/00)"
    );
}

#[test]
fn own_preemption_is_not_fencing() {
    let mut map = registered();
    map.toggle(1);
    // This preempts the old key of the down path, which reports that when it returns.
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    map.paths[1].state = PathState::Up;
    assert_eq!(map.keys(), [2, 0]);
    assert_eq!(map.status(&register(2, 1)), Status::GOOD);
    assert_eq!((map.keys(), map.stored_key()), (vec![1, 1], Some(1)));
}

/// A worker was killed while it had given a path the temporary key.
#[test]
fn preempt_of_the_own_key_replaces_a_temporary_key() {
    let temporary = 1 ^ u64::from_be_bytes(*b"prhelper");
    for path in 0..2 {
        let mut map = registered();
        assert_eq!(map.status(&reserve(1)), Status::GOOD);
        let nexus = map.paths[path].nexus;
        execute_on_nexus(&map.unit, nexus, &register(1, temporary));
        let done = map.execute(&preempt(1, 1).with_type(WERO));
        assert_eq!((done.result.status, done.warnings), (Status::GOOD, vec![]));
        assert_eq!((map.keys(), map.reserved()), (vec![1, 1], Some(WERO)));
        assert!(map.is_holder(1));
    }
}
