//! RESERVE, RELEASE, CLEAR, unit attentions, and the access that a reservation allows.

use scsi_pr::{ReservationType, Status};
use soft_lun::Access;

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, KEY_A, KEY_B, STALE, TestUnit, WRITE_REGISTRANTS_ONLY, clear,
    other_type, preempt, release, reported_key, reserve,
};

#[test]
fn reserve_keeps_generation() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_reservation(Some((reported_key(KEY_A, kind), kind)));
        unit.expect_keys(2, &[KEY_A, KEY_B]);
        unit.expect_ready(&[A, B, C]);
    }
}

#[test]
fn reserve_again_by_holder_changes_nothing() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        let before = unit.inner.clone();
        unit.expect_good(A, &reserve(KEY_A, kind));
        assert_eq!(unit.inner, before);
        unit.expect_conflict(A, &reserve(KEY_A, other_type(kind)));
    }
}

#[test]
fn release_notifies_registrants_of_their_types() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_good(A, &release(KEY_A, kind));
        if kind.allows_registrants() {
            unit.expect_unit_attention(B, 0x2a, 0x04);
        }
        unit.expect_ready(&[A, B, C]);
        unit.expect_reservation(None);
        unit.expect_keys(2, &[KEY_A, KEY_B]);
    }
}

#[test]
fn release_by_registrant_does_nothing() {
    for kind in ReservationType::ALL
        .into_iter()
        .filter(|kind| !kind.is_all_registrants())
    {
        let mut unit = TestUnit::reserved(kind);
        let before = unit.inner.clone();
        unit.expect_good(B, &release(KEY_B, kind));
        unit.expect_good(B, &release(KEY_B, other_type(kind)));
        assert_eq!(unit.inner, before);
        unit.expect_good(A, &release(KEY_A, kind));
        unit.expect_conflict(C, &release(0, kind));
    }
}

#[test]
fn release_of_other_type_or_scope_is_rejected() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_illegal(A, &release(KEY_A, other_type(kind)), 0x26, 0x04);
        let mut elsewhere = release(KEY_A, kind);
        elsewhere.cdb[2] |= 0x10;
        unit.expect_illegal(A, &elsewhere, 0x26, 0x04);
        unit.expect_conflict(A, &release(STALE, kind));
    }
}

#[test]
fn clear_removes_all_and_notifies_registrants() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_conflict(B, &clear(KEY_A));
        unit.expect_conflict(C, &clear(0));
        unit.expect_good(B, &clear(KEY_B));
        unit.expect_unit_attention(A, 0x2a, 0x03);
        unit.expect_ready(&[A, B, C]);
        unit.expect_keys(3, &[]);
        unit.expect_reservation(None);
    }
}

/// SPC-4, 5.12, tables of allowed commands: read and write access of the holder, of another
/// registrant, and of an unregistered node.
#[test]
fn reservation_type_determines_access() {
    for (code, registrant, unregistered) in [
        (1, (true, false), (true, false)),
        (3, (false, false), (false, false)),
        (5, (true, true), (true, false)),
        (6, (true, true), (false, false)),
        (7, (true, true), (true, false)),
        (8, (true, true), (false, false)),
    ] {
        let unit = TestUnit::reserved(ReservationType::from_code(code).unwrap());
        for (node, expected) in [(A, (true, true)), (B, registrant), (C, unregistered)] {
            let id = unit.id(node);
            let may = (unit.inner.can_read(id), unit.inner.can_write(id));
            assert_eq!(may, expected, "{code} {node:?}");
        }
    }
}

#[test]
fn access_without_reservation_is_allowed() {
    let mut unit = TestUnit::new();
    let id = unit.id(A);
    assert!(unit.inner.can_read(id) && unit.inner.can_write(id));
    assert_eq!(unit.inner.access(id, Access::Write).status, Status::GOOD);
}

#[test]
fn unregistered_node_can_only_test_unit_ready() {
    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    let id = unit.id(C);
    for (access, status) in [
        (Access::TestUnitReady, Status::GOOD),
        (Access::Read, Status::RESERVATION_CONFLICT),
        (Access::Write, Status::RESERVATION_CONFLICT),
    ] {
        let response = unit.inner.access(id, access);
        assert_eq!((response.status, response.sense), (status, None));
    }
}

#[test]
fn unit_attention_is_reported_once_to_any_access() {
    let mut unit = TestUnit::reserved(WRITE_REGISTRANTS_ONLY);
    for access in [Access::TestUnitReady, Access::Read, Access::Write] {
        unit.expect_good(A, &release(KEY_A, WRITE_REGISTRANTS_ONLY));
        let id = unit.id(B);
        assert_eq!(
            unit.inner.access(id, access).status,
            Status::CHECK_CONDITION
        );
        assert_eq!(unit.inner.access(id, access).status, Status::GOOD);
        unit.expect_good(A, &reserve(KEY_A, WRITE_REGISTRANTS_ONLY));
    }
}

#[test]
fn unit_attentions_are_reported_in_order_once() {
    let mut unit = TestUnit::reserved(WRITE_REGISTRANTS_ONLY);
    for _ in 0..3 {
        unit.expect_good(A, &release(KEY_A, WRITE_REGISTRANTS_ONLY));
        unit.expect_good(A, &reserve(KEY_A, WRITE_REGISTRANTS_ONLY));
    }
    unit.expect_good(A, &preempt(KEY_A, KEY_B, WRITE_REGISTRANTS_ONLY));
    unit.expect_unit_attention(B, 0x2a, 0x04);
    unit.expect_unit_attention(B, 0x2a, 0x05);
    unit.expect_ready(&[A, B, C]);
}

#[test]
fn unit_attention_prevents_execution() {
    let mut unit = TestUnit::reserved(WRITE_REGISTRANTS_ONLY);
    unit.expect_good(A, &release(KEY_A, WRITE_REGISTRANTS_ONLY));
    let response = unit.send(B, &clear(KEY_B));
    assert_eq!(response.status, Status::CHECK_CONDITION);
    unit.expect_keys(2, &[KEY_A, KEY_B]);
}
