// SPDX-License-Identifier: MIT OR Apache-2.0

//! Export and import of the state.

use pr_testkit::cdb::{clear, register};
use scsi_pr::{ReservationKey, ReservationType};
use soft_lun::{LogicalUnit, Registration, Reservation, Snapshot, SnapshotError, UnitAttention};

use crate::test_unit::{A, B, KEY_A, TestUnit, WRITE_ALL_REGISTRANTS, WRITE_EXCLUSIVE, nexus};

#[test]
fn restore_of_default_clears_the_unit() {
    let mut unit = TestUnit::reserved(WRITE_EXCLUSIVE);
    unit.expect_good(A, &clear(KEY_A));
    unit.inner.restore(&Snapshot::default()).unwrap();
    assert_eq!(unit.inner, TestUnit::new().inner);
}

#[test]
fn with_holder_checks_type_and_holder() {
    let id = TestUnit::new().id(A);
    assert_eq!(
        Reservation::with_holder(WRITE_ALL_REGISTRANTS, Some(id)),
        None
    );
    assert_eq!(Reservation::with_holder(WRITE_EXCLUSIVE, None), None);
    for kind in ReservationType::ALL {
        let reservation = Reservation::new(kind, id);
        let again = Reservation::with_holder(kind, reservation.holder());
        assert_eq!(again, Some(reservation));
    }
}

#[test]
fn restore_of_invalid_snapshot_is_rejected() {
    let mut unit = TestUnit::new();
    let (a, b) = (unit.id(A), unit.id(B));
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
            of(&[], Some(Reservation::new(WRITE_ALL_REGISTRANTS, a))),
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
        let before = unit.inner.clone();
        assert_eq!(unit.inner.restore(&snapshot), Err(error));
        assert_eq!(unit.inner, before);
    }
}

#[test]
fn restore_with_unknown_nexus_is_rejected() {
    let mut unit = TestUnit::new();
    unit.expect_good(B, &register(0, KEY_A));
    let mut small = LogicalUnit::new(vec![nexus(A)]).unwrap();
    let error = SnapshotError::UnknownNexus(unit.id(B));
    assert_eq!(small.restore(&unit.inner.snapshot()), Err(error));
}
