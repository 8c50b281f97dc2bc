// SPDX-License-Identifier: MIT OR Apache-2.0

//! RESERVE, RELEASE, CLEAR, unit attentions, and the access that a reservation allows.

use pr_testkit::cdb::{clear, release, reserve};
use scsi_pr::{AdditionalSense, ReservationType, Status};
use soft_lun::Access;

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, KEY_A, KEY_B, RESERVATIONS_RELEASED, STALE, TestUnit,
    WRITE_REGISTRANTS_ONLY, other_type, reported_key,
};

#[test]
fn reserve_keeps_generation() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_reservation(Some((reported_key(KEY_A, kind), kind)));
        unit.expect_keys(2, &[KEY_A, KEY_B]);
        unit.expect_ready();
    }
}

#[test]
fn release_notifies_registrants_of_their_types() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_good(A, &release(KEY_A, kind));
        if kind.allows_registrants() {
            unit.expect_unit_attention(B, RESERVATIONS_RELEASED);
        }
        unit.expect_ready();
        unit.expect_reservation(None);
        unit.expect_keys(2, &[KEY_A, KEY_B]);
    }
}

#[test]
fn release_of_other_type_or_scope_is_rejected() {
    let code = AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION;
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_illegal(A, &release(KEY_A, other_type(kind)), code);
        let mut elsewhere = release(KEY_A, kind);
        elsewhere.cdb[2] |= 0x10;
        unit.expect_illegal(A, &elsewhere, code);
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
        unit.expect_unit_attention(A, AdditionalSense::RESERVATIONS_PREEMPTED);
        unit.expect_ready();
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
        for status in [Status::CHECK_CONDITION, Status::GOOD] {
            assert_eq!(unit.inner.access(id, access).status, status);
        }
        unit.expect_good(A, &reserve(KEY_A, WRITE_REGISTRANTS_ONLY));
    }
}
