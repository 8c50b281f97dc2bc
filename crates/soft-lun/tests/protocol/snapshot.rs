//! States that are put back.

use scsi_pr::{ReservationKey, ReservationType};
use soft_lun::{SnapshotError, LogicalUnit, Registration, Reservation, Snapshot, UnitAttention};

use crate::play::{A, B, KEY_A, Play, WRITE_ALL, WRITE_EXCLUSIVE, clear, nexus, register, release};

#[test]
fn what_was_there_is_there_again() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.good(A, &release(KEY_A, kind));
        let mut other = Play::new();
        other.unit.restore(&play.unit.snapshot()).unwrap();
        assert_eq!(other.unit, play.unit);
    }
}

#[test]
fn nothing_of_before_is_left() {
    let mut play = Play::held(WRITE_EXCLUSIVE);
    play.good(A, &clear(KEY_A));
    play.unit.restore(&Snapshot::default()).unwrap();
    assert_eq!(play.unit, Play::new().unit);
}

#[test]
fn type_and_holder_go_together() {
    let id = Play::new().id(A);
    assert_eq!(Reservation::with_holder(WRITE_ALL, Some(id)), None);
    assert_eq!(Reservation::with_holder(WRITE_EXCLUSIVE, None), None);
    for kind in ReservationType::ALL {
        let reservation = Reservation::new(kind, id);
        let again = Reservation::with_holder(kind, reservation.holder());
        assert_eq!(again, Some(reservation));
    }
}

#[test]
fn impossible_states_are_refused() {
    let mut play = Play::new();
    let (a, b) = (play.id(A), play.id(B));
    let with = |key: u64| Registration {
        nexus: a,
        key: ReservationKey::new(key),
        all_tg_pt: false,
    };
    let of = |registrations: &[Registration], reservation| Snapshot {
        registrations: registrations.to_vec(),
        reservation,
        ..Snapshot::default()
    };
    for (snapshot, error) in [
        (of(&[with(0)], None), SnapshotError::ZeroKey(nexus(A))),
        (
            of(&[with(1), with(2)], None),
            SnapshotError::DuplicateRegistration(nexus(A)),
        ),
        (
            of(&[with(1)], Some(Reservation::new(WRITE_EXCLUSIVE, b))),
            SnapshotError::HolderNotRegistered(nexus(B)),
        ),
        (
            of(&[], Some(Reservation::new(WRITE_ALL, a))),
            SnapshotError::NoRegistrants,
        ),
        (
            Snapshot {
                unit_attentions: vec![(a, UnitAttention::PowerOn); 2],
                ..Snapshot::default()
            },
            SnapshotError::DuplicateUnitAttention(nexus(A)),
        ),
    ] {
        let before = play.unit.clone();
        assert_eq!(play.unit.restore(&snapshot), Err(error));
        assert_eq!(play.unit, before);
    }
}

#[test]
fn nexuses_of_another_unit_are_refused() {
    let mut play = Play::new();
    play.good(B, &register(0, KEY_A));
    let mut small = LogicalUnit::new(vec![nexus(A)]).unwrap();
    let error = SnapshotError::UnknownNexus(play.id(B));
    assert_eq!(small.restore(&play.unit.snapshot()), Err(error));
}
