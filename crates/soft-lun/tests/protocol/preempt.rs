//! PREEMPT and PREEMPT AND ABORT.

use scsi_pr::ReservationType;

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, KEY_A, KEY_B, STALE, TestUnit, WRITE_ALL_REGISTRANTS, other_type,
    preempt, preempt_and_abort, register, reported_key, reserve,
};

fn single_holder() -> impl Iterator<Item = ReservationType> {
    ReservationType::ALL
        .into_iter()
        .filter(|kind| !kind.is_all_registrants())
}

fn all_registrants() -> impl Iterator<Item = ReservationType> {
    ReservationType::ALL
        .into_iter()
        .filter(|kind| kind.is_all_registrants())
}

#[test]
fn preempt_of_holder_takes_over_reservation() {
    for kind in single_holder() {
        for send in [preempt, preempt_and_abort] {
            let mut unit = TestUnit::reserved(kind);
            unit.expect_good(B, &send(KEY_B, KEY_A, kind));
            unit.expect_unit_attention(A, 0x2a, 0x05);
            unit.expect_ready(&[A, B, C]);
            unit.expect_keys(3, &[KEY_B]);
            unit.expect_reservation(Some((KEY_B, kind)));
            unit.expect_conflict(A, &reserve(KEY_A, kind));
        }
    }
}

#[test]
fn preempt_with_new_type_notifies_registrants() {
    for kind in single_holder() {
        for new in ReservationType::ALL {
            let mut unit = TestUnit::reserved(kind);
            unit.expect_good(C, &register(0, STALE));
            unit.expect_good(B, &preempt(KEY_B, KEY_A, new));
            unit.expect_unit_attention(A, 0x2a, 0x05);
            if new != kind {
                unit.expect_unit_attention(C, 0x2a, 0x04);
            }
            unit.expect_ready(&[A, B, C]);
            unit.expect_reservation(Some((reported_key(KEY_B, new), new)));
        }
    }
}

#[test]
fn preempt_of_own_key_changes_type() {
    for kind in single_holder() {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_good(A, &preempt(KEY_A, KEY_A, kind));
        unit.expect_ready(&[A, B, C]);
        unit.expect_good(A, &preempt(KEY_A, KEY_A, other_type(kind)));
        unit.expect_unit_attention(B, 0x2a, 0x04);
        unit.expect_ready(&[A, B, C]);
        unit.expect_keys(4, &[KEY_A, KEY_B]);
        unit.expect_reservation(Some((KEY_A, other_type(kind))));
    }
}

#[test]
fn preempt_of_registrant_ignores_scope_and_type() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        // The unit ignores scope and type, because it only removes registrations.
        let mut command = preempt(KEY_A, KEY_B, other_type(kind));
        command.cdb[2] |= 0xf0;
        unit.expect_good(A, &command);
        unit.expect_unit_attention(B, 0x2a, 0x05);
        unit.expect_ready(&[A, B, C]);
        unit.expect_keys(3, &[KEY_A]);
        unit.expect_reservation(Some((reported_key(KEY_A, kind), kind)));
    }
}

#[test]
fn preempt_of_key_zero_removes_all_registrants() {
    for kind in all_registrants() {
        for new in ReservationType::ALL {
            let mut unit = TestUnit::reserved(kind);
            unit.expect_good(C, &register(0, STALE));
            unit.expect_good(B, &preempt(KEY_B, 0, new));
            unit.expect_unit_attention(A, 0x2a, 0x05);
            unit.expect_unit_attention(C, 0x2a, 0x05);
            unit.expect_ready(&[A, B, C]);
            unit.expect_keys(4, &[KEY_B]);
            unit.expect_reservation(Some((reported_key(KEY_B, new), new)));
        }
    }
}

#[test]
fn preempt_among_all_registrants_removes_key() {
    for kind in all_registrants() {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_good(B, &preempt(KEY_B, KEY_A, EXCLUSIVE_ACCESS));
        unit.expect_unit_attention(A, 0x2a, 0x05);
        unit.expect_reservation(Some((0, kind)));
        // The reservation is released with the last registration.
        unit.expect_good(B, &preempt(KEY_B, KEY_B, EXCLUSIVE_ACCESS));
        unit.expect_keys(4, &[]);
        unit.expect_reservation(None);
        unit.expect_ready(&[A, B, C]);
    }
}

#[test]
fn preempt_of_key_zero_is_otherwise_rejected() {
    for kind in single_holder() {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_illegal(B, &preempt(KEY_B, 0, kind), 0x26, 0);
    }
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_illegal(A, &preempt(KEY_A, 0, WRITE_ALL_REGISTRANTS), 0x26, 0);
}
