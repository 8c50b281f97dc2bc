// SPDX-License-Identifier: MIT OR Apache-2.0

//! A unit with limited features reports them and rejects commands that use the others.

use pr_testkit::cdb::{
    key_list, preempt, register, register_and_ignore_with, register_and_move, register_with,
    release, report_capabilities, reserve,
};
use scsi_pr::{BasicParameterList, RegisterAndMove, ReservationType, TypeMask};
use soft_lun::{SnapshotError, SupportedFeatures};

use crate::test_unit::{
    A, B, EXCLUSIVE_ACCESS, INVALID_CDB, INVALID_LIST, KEY_A, KEY_B, STALE, TestUnit,
    WRITE_EXCLUSIVE, move_to, nexus, other_type,
};

/// No optional features and no reservation types.
const NOTHING: SupportedFeatures = SupportedFeatures {
    persist_through_power_loss: false,
    specify_initiator_ports: false,
    all_target_ports: false,
    types: TypeMask::new(0),
};

fn supporting(supported: SupportedFeatures) -> TestUnit {
    TestUnit {
        inner: TestUnit::new().inner.with_features(supported),
    }
}

#[test]
fn report_capabilities_reports_supported_features() {
    let types = TypeMask::default().with(WRITE_EXCLUSIVE);
    let with = |change: fn(&mut SupportedFeatures)| {
        let mut supported = NOTHING;
        change(&mut supported);
        supported
    };
    for (supported, bits, mask) in [
        (NOTHING, 0x00, [0, 0]),
        (
            with(|all| all.persist_through_power_loss = true),
            0x01,
            [0, 0],
        ),
        (with(|all| all.all_target_ports = true), 0x04, [0, 0]),
        (with(|all| all.specify_initiator_ports = true), 0x08, [0, 0]),
        (SupportedFeatures { types, ..NOTHING }, 0x00, [2, 0]),
        (SupportedFeatures::default(), 0x0d, [0xea, 1]),
    ] {
        let mut unit = supporting(supported);
        let data = unit.expect_good(A, &report_capabilities(8));
        assert_eq!(data, [0, 8, bits, 0x90, mask[0], mask[1], 0, 0]);
        assert_eq!(unit.inner.supported_features(), supported);
    }
}

#[test]
fn unsupported_flag_is_rejected() {
    let list = key_list(0, KEY_A);
    let (mut aptpl, mut all_tg_pt, mut spec_i_pt) = (list.clone(), list.clone(), list.clone());
    aptpl.aptpl = true;
    all_tg_pt.all_tg_pt = true;
    spec_i_pt.spec_i_pt = Some(vec![nexus(B).initiator]);
    for list in [aptpl, all_tg_pt, spec_i_pt] {
        supporting(NOTHING).expect_illegal(A, &register_with(&list), INVALID_LIST);
        supporting(SupportedFeatures::default()).expect_good(A, &register_with(&list));
        if list.spec_i_pt.is_none() {
            supporting(NOTHING).expect_illegal(A, &register_and_ignore_with(&list), INVALID_LIST);
        }
    }
    supporting(NOTHING).expect_good(A, &register_with(&list));
}

#[test]
fn wrong_key_precedes_unsupported_flag() {
    let list = BasicParameterList {
        aptpl: true,
        ..key_list(STALE, KEY_A)
    };
    supporting(NOTHING).expect_conflict(A, &register_with(&list));
}

#[test]
fn unsupported_all_tg_pt_checks_no_other_keys() {
    let mut second = nexus(A);
    second.target_port = 2.into();
    let unit = TestUnit::with_nexuses(vec![nexus(A), second]);
    let mut unit = TestUnit {
        inner: unit.inner.with_features(NOTHING),
    };
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_good(B, &register(0, KEY_B));
    let mut list = key_list(KEY_A, STALE);
    list.all_tg_pt = true;
    unit.expect_illegal(A, &register_with(&list), INVALID_LIST);
}

#[test]
fn restore_with_unsupported_feature_is_rejected() {
    let mut everything = TestUnit::new();
    let mut list = key_list(0, KEY_A);
    let expect_unsupported = |unit: &TestUnit, feature| {
        let mut nothing = supporting(NOTHING);
        let error = nothing.inner.restore(&unit.inner.snapshot()).unwrap_err();
        assert_eq!(error, SnapshotError::Unsupported(feature));
        assert_eq!(nothing.inner, supporting(NOTHING).inner);
    };
    list.all_tg_pt = true;
    everything.expect_good(A, &register_with(&list));
    expect_unsupported(&everything, "ALL_TG_PT");
    list.aptpl = true;
    everything.expect_good(B, &register_with(&list));
    expect_unsupported(&everything, "APTPL");
    let mut everything = TestUnit::reserved(EXCLUSIVE_ACCESS);
    expect_unsupported(&everything, "the reservation type");
    everything.expect_good(A, &release(KEY_A, EXCLUSIVE_ACCESS));
    let mut nothing = supporting(NOTHING);
    nothing.inner.restore(&everything.inner.snapshot()).unwrap();
}

#[test]
fn move_with_unsupported_aptpl_is_rejected() {
    let mut unit = supporting(SupportedFeatures {
        types: TypeMask::ALL,
        ..NOTHING
    });
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_good(A, &reserve(KEY_A, EXCLUSIVE_ACCESS));
    let list = move_to(B, KEY_A, KEY_B);
    let with_aptpl = RegisterAndMove {
        aptpl: true,
        ..list.clone()
    };
    unit.expect_illegal(A, &register_and_move(&with_aptpl), INVALID_LIST);
    unit.expect_good(A, &register_and_move(&list));
}

#[test]
fn unsupported_type_is_rejected() {
    for kind in ReservationType::ALL {
        let other = other_type(kind);
        let types = TypeMask::default().with(other);
        let mut unit = supporting(SupportedFeatures {
            types,
            ..SupportedFeatures::default()
        });
        unit.expect_good(A, &register(0, KEY_A));
        unit.expect_good(B, &register(0, KEY_B));
        unit.expect_illegal(A, &reserve(KEY_A, kind), INVALID_CDB);
        unit.expect_good(A, &reserve(KEY_A, other));
        let victim = if other.is_all_registrants() { 0 } else { KEY_A };
        unit.expect_illegal(B, &preempt(KEY_B, victim, kind), INVALID_CDB);
        unit.expect_good(B, &preempt(KEY_B, victim, other));
    }
}
