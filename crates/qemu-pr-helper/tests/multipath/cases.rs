//! Paths that go away, that differ, that do not follow; and multipathd.

use qemu_pr_helper::multipath::pr_out::{Done, Kept, execute};
use scsi_pr::{OutServiceAction, ReservationType, Status};

use crate::map::{Map, Memory, Out, State, TestPath, show, single};

const WERO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

pub(crate) const fn register(key: u64, new: u64) -> Out {
    Out::new(OutServiceAction::Register, key, new)
}

const fn reserve(key: u64) -> Out {
    Out::new(OutServiceAction::Reserve, key, 0).of(WERO)
}

const fn release(key: u64) -> Out {
    Out::new(OutServiceAction::Release, key, 0).of(WERO)
}

/// A map that is registered with key 1, and holds the reservation by its first path, which is gone.
fn held_by_lost_path() -> Map {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    assert_eq!(map.other(&register(0, 9)).status, Status::GOOD);
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    map.toggle(0);
    map
}

/// What the operator was told, in one text.
fn told(done: &Done) -> String {
    done.remarks.join("\n")
}

#[test]
fn who_holds_by_a_lost_path_may_reserve_again() {
    let mut map = held_by_lost_path();
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    let other = Out::new(OutServiceAction::Reserve, 1, 0).of(ReservationType::WriteExclusive);
    assert_eq!(map.status(&other), Status::RESERVATION_CONFLICT);
    assert_eq!(map.other(&reserve(9)).status, Status::RESERVATION_CONFLICT);
}

#[test]
fn what_a_lost_path_holds_is_released() {
    let mut map = held_by_lost_path();
    let wrong = Out::new(OutServiceAction::Release, 1, 0).of(ReservationType::WriteExclusive);
    assert_eq!(
        show(&map.execute(&wrong).outcome),
        "CHECK CONDITION ILLEGAL REQUEST, INVALID RELEASE OF PERSISTENT RESERVATION (5/26/04)"
    );
    assert_eq!(map.reserved(), Some(WERO));
    let done = map.execute(&release(1));
    assert_eq!((done.outcome.status, done.remarks), (Status::GOOD, vec![]));
    assert_eq!(map.reserved(), None);
    // B is as it was, and multipathd can register the path again.
    assert_eq!(map.unit.borrow().key_of(map.b), Some(9.into()));
    assert_eq!(map.keys(), [0, 1]);
    map.toggle(0);
    assert_eq!(map.keys(), [1, 1]);
}

#[test]
fn a_new_key_goes_with_the_reservation_of_a_lost_path() {
    let mut map = held_by_lost_path();
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    assert!(map.is_holder(2));
    assert_eq!(map.reserved(), Some(WERO));
}

#[test]
fn who_gives_up_his_registration_gives_up_that_of_a_lost_path() {
    let mut map = held_by_lost_path();
    let done = map.execute(&register(1, 0));
    assert_eq!((done.outcome.status, done.remarks), (Status::GOOD, vec![]));
    assert_eq!((map.keys(), map.reserved()), (vec![0, 0], None));
    assert_eq!(map.unit.borrow().key_of(map.b), Some(9.into()));
    assert_eq!(map.kept(), None);
}

#[test]
fn a_key_that_others_have_too_is_not_preempted() {
    let mut map = held_by_lost_path();
    assert_eq!(map.other(&register(9, 1)).status, Status::GOOD);
    let done = map.execute(&register(1, 0));
    assert_eq!(done.outcome.status, Status::GOOD);
    assert!(
        told(&done).contains("there are registrations with its key"),
        "{done:?}"
    );
    assert_eq!(map.keys(), [1, 0]);
    assert_eq!(map.unit.borrow().key_of(map.b), Some(1.into()));
}

#[test]
fn a_path_with_a_key_of_its_own_makes_a_conflict_and_none_is_left_registered() {
    let mut map = Map::new(2);
    single(&map.unit, map.paths[1].nexus, &register(0, 7));
    let done = map.execute(&register(0, 1));
    assert_eq!(done.outcome.status, Status::RESERVATION_CONFLICT);
    assert_eq!(done.remarks, Vec::<String>::new());
    assert_eq!((map.keys(), map.kept()), (vec![0, 7], None));
    // As with a single path, it can be ignored.
    let ignore = Out::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, 1);
    assert_eq!(map.status(&ignore), Status::GOOD);
    assert_eq!((map.keys(), map.kept()), (vec![1, 1], Some(1)));
}

#[test]
fn what_was_broken_off_is_finished_by_the_next() {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    // A worker was killed when it had given one path the new key.
    single(&map.unit, map.paths[0].nexus, &register(1, 2));
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    assert_eq!(map.keys(), [2, 2]);
    // A path came back when multipathd was not there.
    single(&map.unit, map.paths[0].nexus, &register(2, 0));
    assert_eq!(map.status(&register(2, 3)), Status::GOOD);
    assert_eq!(map.keys(), [3, 3]);
}

#[test]
fn a_path_that_does_not_follow_takes_all_back() {
    for before in [0, 1] {
        let mut map = Map::new(2);
        map.status(&register(0, before));
        map.paths[1].state = State::Busy;
        let done = map.execute(&register(before, 2));
        assert_eq!(done.outcome.status, Status::BUSY);
        assert_eq!(map.keys(), [before, before]);
        assert_eq!(map.kept(), (before != 0).then_some(before));
    }
}

#[test]
fn without_multipathd_nothing_is_registered_but_can_be_given_up() {
    let mut map = Map::new(2);
    map.memory.is_away = true;
    let done = map.execute(&register(0, 1));
    assert_eq!(
        show(&done.outcome),
        "CHECK CONDITION ABORTED COMMAND, LOGICAL UNIT COMMUNICATION FAILURE (b/08/00)"
    );
    assert!(told(&done).contains("registration refused"), "{done:?}");
    assert_eq!(map.paths.iter().map(|path| path.sent).sum::<usize>(), 0);

    map.memory.is_away = false;
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    map.memory.is_away = true;
    let done = map.execute(&register(1, 0));
    assert_eq!(done.outcome.status, Status::GOOD);
    assert_eq!(map.keys(), [0, 0]);
    assert!(told(&done).contains("may be"), "{done:?}");
}

#[test]
fn a_key_that_multipathd_does_not_keep_is_not_registered() {
    let mut map = Map::new(2);
    map.memory.refuses = true;
    let done = map.execute(&register(0, 1));
    assert_eq!(done.outcome.status, Status::CHECK_CONDITION);
    assert_eq!((map.keys(), map.kept()), (vec![0, 0], None));
}

#[test]
fn without_a_path_there_is_sense_and_nothing_changes() {
    for command in [register(0, 1), reserve(1), release(1)] {
        let mut map = Map::new(2);
        map.toggle(0);
        map.toggle(1);
        let done = map.execute(&command);
        assert_eq!(
            show(&done.outcome),
            "CHECK CONDITION ABORTED COMMAND, I_T NEXUS LOSS OCCURRED (b/29/07)"
        );
        assert_eq!((map.keys(), map.kept()), (vec![0, 0], None));
    }
    let done = execute::<TestPath, _>(&mut [], &mut Memory::default(), &[0x5f; 16], &[]);
    assert_eq!(done.outcome.status, Status::CHECK_CONDITION);
}

#[test]
fn multipathd_is_told_who_holds() {
    let mut map = Map::new(2);
    map.status(&register(0, 1));
    map.status(&reserve(1));
    assert!(map.memory.holds);
    map.status(&release(1));
    assert!(!map.memory.holds);
    map.other(&register(0, 9));
    map.other(&reserve(9));
    map.status(&Out::new(OutServiceAction::Preempt, 1, 9).of(WERO));
    assert!(map.memory.holds);
}

/// The kernel's target: who holds nothing may release with any key, and who holds is refused if key or type
/// is another one.
#[test]
fn a_holder_that_refuses_to_release_is_heard() {
    use OutServiceAction as Action;
    let kind = ReservationType::WriteExclusive;
    let reserve = Out::new(Action::Reserve, 1, 0).of(kind);
    let wrong_key = Out::new(Action::Release, 7, 0).of(kind);
    let wrong_type = Out::new(Action::Release, 1, 0).of(ReservationType::ExclusiveAccess);
    for release in [wrong_key, wrong_type] {
        let mut map = Map::new(2);
        assert_eq!(map.status(&Out::new(Action::Register, 0, 1)), Status::GOOD);
        map.paths[0].state = State::Releases(Status::RESERVATION_CONFLICT);
        map.paths[1].state = State::Releases(Status::GOOD);
        // Nothing is reserved: the one that refuses is not registered with the key.
        assert_eq!(map.status(&release), Status::GOOD);
        assert_eq!(map.status(&reserve), Status::GOOD);
        assert_eq!(map.status(&release), Status::RESERVATION_CONFLICT);
    }
    // What B holds is not ours to release.
    let mut map = Map::new(2);
    assert_eq!(map.status(&Out::new(Action::Register, 0, 1)), Status::GOOD);
    map.other(&Out::new(Action::Register, 0, 2));
    map.other(&Out::new(Action::Reserve, 2, 0).of(kind));
    map.paths[0].state = State::Releases(Status::RESERVATION_CONFLICT);
    map.paths[1].state = State::Releases(Status::GOOD);
    let release = Out::new(Action::Release, 1, 0).of(kind);
    assert_eq!(map.status(&release), Status::GOOD);
}

const fn ignore(new: u64) -> Out {
    Out::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, new)
}

const fn preempt(key: u64, victim: u64) -> Out {
    Out::new(OutServiceAction::Preempt, key, victim).of(WERO)
}

/// A is registered with key 1 by both paths, B with key 9.
fn registered() -> Map {
    let mut map = Map::new(2);
    assert_eq!(map.status(&register(0, 1)), Status::GOOD);
    assert_eq!(map.other(&register(0, 9)).status, Status::GOOD);
    map
}

#[test]
fn who_is_fenced_between_two_paths_is_fenced() {
    let clear = Out::new(OutServiceAction::Clear, 9, 0);
    for (command, fence) in [
        (register(1, 1), preempt(9, 1)),
        (ignore(1), preempt(9, 1)),
        (register(1, 2), preempt(9, 1)),
        (register(1, 2), preempt(9, 2)),
        (register(1, 2), clear),
    ] {
        let mut map = registered();
        // The second path is read from, the first one does it, and then:
        let (done, fenced) = map.execute_while(&command, 3, fence.clone());
        assert_eq!(fenced, Some(Status::GOOD), "{command:?} {fence:?}");
        assert_eq!(map.keys(), [0, 0], "{command:?} {fence:?} {done:?}");
        assert_eq!(map.kept(), None);
    }
}

#[test]
fn a_path_that_misses_a_command_gets_it_again() {
    let mut map = Map::new(2);
    map.paths[1].state = State::Misses;
    let done = map.execute(&register(0, 1));
    assert_eq!((done.outcome.status, done.remarks), (Status::GOOD, vec![]));
    assert_eq!(map.keys(), [1, 1]);
}

#[test]
fn a_path_that_stays_away_is_named() {
    let mut map = Map::new(2);
    map.toggle(1);
    let done = map.execute(&register(0, 1));
    assert_eq!(done.outcome.status, Status::GOOD);
    assert!(
        told(&done).contains("path NexusId(1) cannot be reached"),
        "{done:?}"
    );
    map.toggle(1);
    assert_eq!(map.keys(), [1, 1]);
}

#[test]
fn what_may_have_been_done_is_no_conflict() {
    for command in [preempt(1, 9), Out::new(OutServiceAction::Clear, 1, 0)] {
        let mut map = registered();
        map.paths[0].state = State::Mute;
        let done = map.execute(&command);
        assert_eq!(done.outcome.status, Status::CHECK_CONDITION, "{command:?}");
        assert_eq!(map.unit.borrow().key_of(map.b), None);
    }
}

#[test]
fn the_old_key_of_a_path_that_is_away_is_fenced_with_the_new_one() {
    let mut map = registered();
    map.toggle(0);
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    while map.other(&preempt(9, 2)).status != Status::GOOD {}
    map.paths[0].state = State::Up;
    assert_eq!(map.keys(), [0, 0]);
}

#[test]
fn a_registration_that_a_busy_path_keeps_is_not_said_to_be_gone() {
    let mut map = registered();
    map.paths[1].state = State::Busy;
    assert_eq!(map.status(&register(1, 0)), Status::BUSY);
    map.paths[1].state = State::Up;
    // The guest tries again.
    assert_eq!(map.status(&register(1, 0)), Status::GOOD);
    assert_eq!(map.keys(), [0, 0]);
}

#[test]
fn what_a_removed_path_has_left_is_named() {
    let mut map = registered();
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    let first = map.paths.remove(0);
    let done = map.execute(&release(1));
    assert!(
        told(&done).contains("a path that is not there any more"),
        "{done:?}"
    );
    let done = map.execute(&register(1, 0));
    assert!(
        told(&done).contains("paths that are not there any more"),
        "{done:?}"
    );
    assert_eq!(map.unit.borrow().key_of(first.nexus), Some(1.into()));
}

#[test]
fn nobody_is_preempted_because_of_what_multipathd_says() {
    let mut map = registered();
    let key = 9.into();
    map.memory.kept = Some(Kept { key, aptpl: false });
    map.toggle(0);
    let done = map.execute(&ignore(0));
    assert!(told(&done).contains("may still be registered"), "{done:?}");
    assert_eq!(map.unit.borrow().key_of(map.b), Some(key));
}

#[test]
fn a_refused_registration_changes_neither_reservation_nor_aptpl() {
    let mut map = Map::new(2);
    let mut command = register(0, 1);
    command.aptpl = true;
    assert_eq!(map.status(&command), Status::GOOD);
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    map.paths[1].state = State::Busy;
    assert_eq!(map.status(&register(1, 2)), Status::BUSY);
    let done = map.execute(&ignore(2));
    assert_eq!(done.outcome.status, Status::BUSY);
    assert!(
        told(&done).contains("is registered with key 0x2, although"),
        "{done:?}"
    );
    assert_eq!(map.reserved(), Some(WERO));
    assert!(!map.unit.borrow().aptpl());
}

#[test]
fn to_register_nothing_is_not_to_give_up() {
    let mut map = registered();
    single(&map.unit, map.paths[0].nexus, &register(1, 0));
    assert_eq!(map.status(&register(0, 0)), Status::GOOD);
    assert_eq!((map.keys(), map.kept()), (vec![0, 1], Some(1)));
}

#[test]
fn a_path_that_is_not_registered_yet_does_not_decide() {
    let mut map = registered();
    map.paths[0].state = State::NotRegistered;
    assert_eq!(map.status(&reserve(1)), Status::GOOD);
    assert_eq!(map.status(&release(1)), Status::GOOD);
    assert_eq!(map.reserved(), None);
    // If none is, that is the answer.
    map.paths[1].state = State::NotRegistered;
    assert_eq!(
        show(&map.execute(&reserve(1)).outcome),
        "CHECK CONDITION NOT READY, LOGICAL UNIT COMMUNICATION FAILURE (2/08/00)"
    );
}

#[test]
fn what_we_have_preempted_ourselves_is_no_fence() {
    let mut map = registered();
    map.toggle(1);
    // Takes the old key away from the path that is away, which is told so when it is back.
    assert_eq!(map.status(&register(1, 2)), Status::GOOD);
    map.paths[1].state = State::Up;
    assert_eq!(map.keys(), [2, 0]);
    assert_eq!(map.status(&register(2, 1)), Status::GOOD);
    assert_eq!((map.keys(), map.kept()), (vec![1, 1], Some(1)));
}
