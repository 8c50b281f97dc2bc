//! PERSISTENT RESERVE IN: content and truncation of the data.

use scsi_pr::{InServiceAction, ReservationType, truncate};

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, KEY_A, KEY_B, TestUnit, nexus, register, reserve_in,
};

#[test]
fn read_of_new_unit_returns_header_only() {
    let mut unit = TestUnit::new();
    let empty = vec![0; 8];
    assert_eq!(
        unit.expect_good(A, &reserve_in(InServiceAction::ReadKeys, 255)),
        empty
    );
    assert_eq!(
        unit.expect_good(A, &reserve_in(InServiceAction::ReadReservation, 255)),
        empty
    );
    assert_eq!(
        unit.expect_good(A, &reserve_in(InServiceAction::ReadFullStatus, 255)),
        empty
    );
}

#[test]
fn report_capabilities_reports_default_features() {
    let mut unit = TestUnit::new();
    let data = unit.expect_good(A, &reserve_in(InServiceAction::ReportCapabilities, 255));
    assert_eq!(data, [0, 8, 0x0d, 0x90, 0xea, 0x01, 0, 0]);
}

#[test]
fn allocation_length_truncates_data() {
    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    for action in InServiceAction::ALL {
        let whole = unit.expect_good(C, &reserve_in(action, u16::MAX));
        assert!(whole.len() >= 8);
        for length in 0..=130 {
            let data = unit.expect_good(C, &reserve_in(action, length));
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
