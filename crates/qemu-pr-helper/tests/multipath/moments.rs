//! What others do between two commands to paths: multipathd registers one, another host fences.

use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::cases::register;
use crate::map::{Map, Out, State, single};

const WERO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

#[test]
fn who_was_fenced_in_the_middle_of_a_change_of_keys_stays_fenced() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    // One path has the new key, the guest was told of a failure, and another host preempts the old key.
    single(&map.unit, map.paths[0].nexus, &register(1, 2));
    assert_eq!(map.other(&register(0, 9)).status, Status::GOOD);
    let fence = Out::new(OutServiceAction::Preempt, 9, 1).of(WERO);
    assert_eq!(map.other(&fence).status, Status::GOOD);
    assert_eq!(map.status(&register(1, 2)), Status::RESERVATION_CONFLICT);
    assert_eq!(map.keys(), [2, 0]);
}

#[test]
fn a_path_that_multipathd_has_given_the_new_key_meanwhile_is_no_conflict() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    // It came back when multipathd had just been told the new key, and the other one goes.
    single(&map.unit, map.paths[0].nexus, &register(1, 2));
    map.paths[1].state = State::Down;
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    assert_eq!((map.keys()[0], map.kept()), (2, Some(2)));
    // A guest that does not know its key is told so.
    assert_eq!(map.status(&register(1, 3)), Status::RESERVATION_CONFLICT);
    assert_eq!((map.keys()[0], map.kept()), (2, Some(2)));
}

#[test]
fn multipathd_may_register_a_path_at_any_moment() {
    let by_multipathd = || Out::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, 2);
    let mut interrupted = 0;
    for number in 1..20 {
        let mut map = Map::new(2);
        assert_eq!(map.status(&register(0, 1)), Status::GOOD);
        // It was away, and is back.
        let path = map.paths[1].nexus;
        single(&map.unit, path, &register(1, 0));
        let (done, status) = map.execute_while_by(path, &register(1, 2), number, by_multipathd());
        assert_eq!(done.outcome.status, Status::GOOD, "before command {number}");
        assert_eq!(map.keys(), [2, 2], "before command {number}");
        interrupted += usize::from(status.is_some());
    }
    assert!(interrupted > 4, "{interrupted}");
}
