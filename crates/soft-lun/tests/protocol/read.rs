// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE IN: content and truncation of the data.

use pr_testkit::cdb::{pr_in, register};
use scsi_pr::{InServiceAction, ReservationType, truncate};

use crate::test_unit::{A, B, C, EXCLUSIVE_ACCESS, KEY_A, KEY_B, TestUnit, nexus};

#[test]
fn read_of_new_unit_returns_header_only() {
    let mut unit = TestUnit::new();
    for action in [
        InServiceAction::ReadKeys,
        InServiceAction::ReadReservation,
        InServiceAction::ReadFullStatus,
    ] {
        assert_eq!(unit.expect_good(A, &pr_in(action, 255)), [0; 8]);
    }
}

#[test]
fn allocation_length_truncates_data() {
    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    for action in InServiceAction::ALL {
        let whole = unit.expect_good(C, &pr_in(action, u16::MAX));
        assert!(whole.len() >= 8);
        for length in 0..=130 {
            let data = unit.expect_good(C, &pr_in(action, length));
            assert_eq!(data, truncate(&whole, length), "{action} {length}");
        }
    }
}

#[test]
fn full_status_reports_holders_and_ports() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        let status = unit.read_full_status();
        assert_eq!(status.generation.get(), 2);
        let [a, b] = &*status.descriptors else {
            panic!("{status}");
        };
        for (one, node, key, holder) in [
            (a, A, KEY_A, true),
            (b, B, KEY_B, kind.is_all_registrants()),
        ] {
            assert_eq!((one.key.get(), one.holder), (key, holder));
            assert_eq!(one.transport_id, Ok(nexus(node).initiator));
            assert_eq!(one.relative_target_port, nexus(node).target_port);
            assert!(!one.all_tg_pt);
            let code = if holder { kind.code() } else { 0 };
            assert_eq!(one.scope_type.0, code);
        }
    }
}

#[test]
fn read_keys_lists_keys_in_registration_order() {
    let mut unit = TestUnit::new();
    unit.expect_good(B, &register(0, KEY_B));
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_good(B, &register(KEY_B, 7));
    unit.expect_keys(3, &[7, KEY_A]);
}
