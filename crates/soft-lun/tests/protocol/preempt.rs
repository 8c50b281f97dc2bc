// SPDX-License-Identifier: MIT OR Apache-2.0

//! PREEMPT and PREEMPT AND ABORT.

use pr_testkit::cdb::{preempt, preempt_and_abort, reserve};
use scsi_pr::ReservationType;

use crate::test_unit::{
    A, B, KEY_A, KEY_B, REGISTRATIONS_PREEMPTED, TestUnit, other_type, reported_key,
};

#[test]
fn preempt_of_holder_takes_over_reservation() {
    let single_holder = |kind: &ReservationType| !kind.is_all_registrants();
    for kind in ReservationType::ALL.into_iter().filter(single_holder) {
        for send in [preempt, preempt_and_abort] {
            let mut unit = TestUnit::reserved(kind);
            unit.expect_good(B, &send(KEY_B, KEY_A, kind));
            unit.expect_unit_attention(A, REGISTRATIONS_PREEMPTED);
            unit.expect_ready();
            unit.expect_keys(3, &[KEY_B]);
            unit.expect_reservation(Some((KEY_B, kind)));
            unit.expect_conflict(A, &reserve(KEY_A, kind));
        }
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
        unit.expect_unit_attention(B, REGISTRATIONS_PREEMPTED);
        unit.expect_ready();
        unit.expect_keys(3, &[KEY_A]);
        unit.expect_reservation(Some((reported_key(KEY_A, kind), kind)));
    }
}
