// SPDX-License-Identifier: MIT OR Apache-2.0

//! REGISTER and REGISTER AND IGNORE EXISTING KEY, `APTPL`, `ALL_TG_PT`, `SPEC_I_PT`.

use pr_testkit::cdb::{
    key_list, register, register_and_ignore_with, register_with, report_capabilities, reserve,
};
use scsi_pr::{BasicParameterList, Capabilities, Status};
use soft_lun::Nexus;

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, INVALID_LIST, KEY_A, KEY_B, POWER_ON, STALE, TestUnit,
    WRITE_ALL_REGISTRANTS, WRITE_EXCLUSIVE, nexus, nexus_at, sas,
};

#[test]
fn register_adds_changes_and_removes_key() {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_keys(1, &[KEY_A]);
    unit.expect_good(A, &register(KEY_A, KEY_B));
    unit.expect_keys(2, &[KEY_B]);
    unit.expect_good(A, &register(KEY_B, 0));
    unit.expect_keys(3, &[]);
}

#[test]
fn register_and_ignore_ignores_wrong_key() {
    let mut unit = TestUnit::new();
    let command = |new| register_and_ignore_with(&key_list(STALE, new));
    for (generation, new, keys) in [
        (0, 0, &[][..]),
        (1, KEY_A, &[KEY_A]),
        (2, KEY_B, &[KEY_B]),
        (3, 0, &[]),
    ] {
        unit.expect_good(A, &command(new));
        unit.expect_keys(generation, keys);
    }
}

fn with_aptpl(key: u64, new: u64, aptpl: bool) -> BasicParameterList {
    BasicParameterList {
        aptpl,
        ..key_list(key, new)
    }
}

#[test]
fn aptpl_is_set_by_last_registration() {
    let mut unit = TestUnit::new();
    let mut expect_active = |node, aptpl, expected| {
        let list = with_aptpl(0, KEY_A, aptpl);
        unit.expect_good(node, &register_and_ignore_with(&list));
        let data = unit.expect_good(C, &report_capabilities(8));
        let capabilities = Capabilities::decode(&data).unwrap();
        assert_eq!(capabilities.persist_through_power_loss_active, expected);
    };
    expect_active(A, false, false);
    expect_active(A, true, true);
    expect_active(B, false, false);
}

#[test]
fn power_loss_keeps_state_with_aptpl() {
    for aptpl in [true, false] {
        let mut unit = TestUnit::new();
        unit.expect_good(A, &register_with(&with_aptpl(0, KEY_A, aptpl)));
        unit.expect_good(A, &reserve(KEY_A, EXCLUSIVE_ACCESS));
        unit.inner.lose_power();
        for node in [A, B, C] {
            unit.expect_unit_attention(node, POWER_ON);
        }
        let keys: &[u64] = if aptpl { &[KEY_A] } else { &[] };
        unit.expect_keys(0, keys);
        unit.expect_reservation(aptpl.then_some((KEY_A, EXCLUSIVE_ACCESS)));
    }
}

/// Creates a unit with the initiator port of A at target ports 1 and 2, and with C. The second
/// nexus of A has the index of B.
fn two_paths() -> TestUnit {
    let second = Nexus {
        target_port: 2.into(),
        ..nexus(A)
    };
    TestUnit::with_nexuses(vec![nexus(A), second, nexus(C)])
}

fn with_all_tg_pt(key: u64, new: u64) -> BasicParameterList {
    BasicParameterList {
        all_tg_pt: true,
        ..key_list(key, new)
    }
}

#[test]
fn all_tg_pt_shares_a_full_status_descriptor() {
    let mut unit = two_paths();
    unit.expect_good(A, &register_with(&with_all_tg_pt(0, KEY_A)));
    unit.expect_keys(1, &[KEY_A, KEY_A]);
    let status = unit.read_full_status().descriptors;
    assert_eq!(status.len(), 1);
    assert!(status[0].all_tg_pt && status[0].key.get() == KEY_A);

    // The registrations differ: first only one nexus holds the reservation, then the keys differ.
    unit.expect_good(B, &reserve(KEY_A, WRITE_EXCLUSIVE));
    let status = unit.read_full_status().descriptors;
    assert_eq!(status.len(), 2);
    assert!(status.iter().all(|descriptor| !descriptor.all_tg_pt));
    assert_eq!([1, 2], [0, 1].map(|n| status[n].relative_target_port.get()));
    unit.expect_good(A, &register(KEY_A, KEY_B));
    assert_eq!(unit.read_full_status().descriptors.len(), 2);
}

#[test]
fn all_tg_pt_all_registrants_share_descriptor() {
    let mut unit = two_paths();
    unit.expect_good(A, &register_with(&with_all_tg_pt(0, KEY_A)));
    unit.expect_good(A, &reserve(KEY_A, WRITE_ALL_REGISTRANTS));
    let status = unit.read_full_status().descriptors;
    assert!(status.len() == 1 && status[0].all_tg_pt && status[0].holder);
}

#[test]
fn all_tg_pt_conflict_registers_no_port() {
    let mut unit = two_paths();
    unit.expect_good(B, &register(0, KEY_B));
    unit.expect_conflict(A, &register_with(&with_all_tg_pt(0, KEY_A)));
    let list = with_all_tg_pt(0, KEY_A);
    unit.expect_good(A, &register_and_ignore_with(&list));
    unit.expect_keys(2, &[KEY_A, KEY_A]);
    unit.expect_good(A, &register_with(&with_all_tg_pt(KEY_A, 0)));
    unit.expect_keys(3, &[]);
}

fn with_spec_i_pt(key: u64, new: u64, nexuses: &[Nexus]) -> BasicParameterList {
    let initiators = nexuses.iter().map(|nexus| nexus.initiator.clone());
    BasicParameterList {
        spec_i_pt: Some(initiators.collect()),
        ..key_list(key, new)
    }
}

#[test]
fn spec_i_pt_empty_list_registers_sender_only() {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register_with(&with_spec_i_pt(0, KEY_A, &[])));
    unit.expect_keys(1, &[KEY_A]);
}

#[test]
fn spec_i_pt_registers_at_the_sender_port() {
    let at = |initiator, target_port: u16| Nexus {
        initiator: sas(initiator),
        target_port: target_port.into(),
    };
    let mut unit = TestUnit::with_nexuses(vec![at(1, 1), at(2, 1), at(2, 2)]);
    let mut list = with_spec_i_pt(0, KEY_A, &[at(2, 1)]);
    unit.expect_good(A, &register_with(&list));
    assert_eq!(unit.inner.key(unit.id(B)), Some(KEY_A.into()));
    assert_eq!(unit.inner.key(unit.id(C)), None);
    unit.expect_good(A, &register(KEY_A, 0));
    unit.expect_good(B, &register(KEY_A, 0));
    list.all_tg_pt = true;
    unit.expect_good(A, &register_with(&list));
    unit.expect_keys(4, &[KEY_A; 3]);
}

/// SPC-4, 7.6.4.6: an iSCSI name without a session identifier names all ports of the device.
#[test]
fn spec_i_pt_iscsi_device_registers_its_ports() {
    let device = nexus_at("iqn.2024-01.example:a", 1);
    let command = register_with(&with_spec_i_pt(0, KEY_A, &[device]));
    // The device has two ports at the target port of the first sender, one at that of the second
    // sender, and none at that of the third one.
    for (sender, registered) in [
        (1_u16, vec![0, 1, 4]),
        (2, vec![2, 4]),
        (3, vec![0, 1, 2, 4]),
    ] {
        let mut unit = TestUnit::with_nexuses(vec![
            nexus_at("iqn.2024-01.example:a,i,0x000000000001", 1),
            nexus_at("iqn.2024-01.example:a,i,0x000000000002", 1),
            nexus_at("iqn.2024-01.example:a,i,0x000000000003", 2),
            nexus_at("iqn.2024-01.example:b,i,0x000000000001", 1),
            nexus_at("sas,5001405000000001", sender),
        ]);
        let sender = unit.inner.nexuses().last().unwrap().0;
        let response = unit
            .inner
            .execute(sender, &command.cdb, &command.parameter_list);
        assert_eq!(response.status, Status::GOOD);
        let keys = unit.inner.nexuses().map(|(id, _)| unit.inner.key(id));
        let with_key = keys.enumerate().filter(|(_, key)| key.is_some());
        let indices: Vec<_> = with_key.map(|(index, _)| index).collect();
        assert_eq!(indices, registered);
    }
}

#[test]
fn spec_i_pt_unknown_initiator_is_rejected() {
    let mut unit = TestUnit::new();
    let unknown = nexus_at("sas,500140500000dead", 1);
    let list = with_spec_i_pt(0, KEY_A, &[nexus(B), unknown]);
    unit.expect_illegal(A, &register_with(&list), INVALID_LIST);
}

#[test]
fn spec_i_pt_of_register_and_ignore_is_rejected() {
    let mut unit = TestUnit::new();
    let list = with_spec_i_pt(0, KEY_B, &[nexus(A)]);
    unit.expect_illegal(B, &register_and_ignore_with(&list), INVALID_LIST);
}
