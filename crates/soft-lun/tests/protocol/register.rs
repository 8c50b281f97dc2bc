//! REGISTER and REGISTER AND IGNORE EXISTING KEY, `APTPL`, `ALL_TG_PT`, `SPEC_I_PT`.

use scsi_pr::{BasicParameterList, Capabilities, InServiceAction, ReservationType, Status};
use soft_lun::Nexus;

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, KEY_A, KEY_B, STALE, TestUnit, WRITE_ALL_REGISTRANTS,
    WRITE_EXCLUSIVE, basic, nexus, register, register_and_ignore, register_with, reported_key,
    reserve, reserve_in, sas,
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
fn register_of_key_zero_unregistered_does_nothing() {
    let mut unit = TestUnit::new();
    let list = BasicParameterList {
        aptpl: true,
        ..basic(0, 0)
    };
    let before = unit.inner.clone();
    unit.expect_good(A, &register_with(&list));
    unit.expect_good(A, &register_and_ignore(&list));
    unit.expect_good(A, &register_and_ignore(&basic(STALE, 0)));
    assert_eq!(unit.inner, before);
}

#[test]
fn register_and_ignore_ignores_wrong_key() {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register_and_ignore(&basic(STALE, KEY_A)));
    unit.expect_good(A, &register_and_ignore(&basic(STALE, KEY_B)));
    unit.expect_keys(2, &[KEY_B]);
    unit.expect_good(A, &register_and_ignore(&basic(STALE, 0)));
    unit.expect_keys(3, &[]);
}

#[test]
fn register_of_new_key_keeps_reservation() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_good(A, &register(KEY_A, STALE));
        unit.expect_reservation(Some((reported_key(STALE, kind), kind)));
        unit.expect_ready(&[A, B, C]);
    }
}

#[test]
fn unregister_of_last_holder_releases() {
    for kind in ReservationType::ALL {
        let mut unit = TestUnit::reserved(kind);
        unit.expect_good(A, &register(KEY_A, 0));
        if kind.is_registrants_only() {
            unit.expect_unit_attention(B, 0x2a, 0x04);
        }
        unit.expect_ready(&[A, B, C]);
        unit.expect_reservation(kind.is_all_registrants().then_some((0, kind)));
        unit.expect_good(B, &register(KEY_B, 0));
        unit.expect_reservation(None);
        unit.expect_ready(&[A, B, C]);
    }
}

#[test]
fn aptpl_is_set_by_last_registration() {
    let mut unit = TestUnit::new();
    let active = |unit: &mut TestUnit| {
        let data = unit.expect_good(C, &reserve_in(InServiceAction::ReportCapabilities, 8));
        let capabilities = Capabilities::decode(&data).unwrap();
        capabilities.persist_through_power_loss_active
    };
    let list = |key, new, aptpl| BasicParameterList {
        aptpl,
        ..basic(key, new)
    };
    assert!(!active(&mut unit));
    unit.expect_good(A, &register_with(&list(0, KEY_A, true)));
    assert!(active(&mut unit));
    unit.expect_conflict(B, &register_with(&list(STALE, KEY_B, false)));
    assert!(active(&mut unit));
    unit.expect_good(B, &register_and_ignore(&list(0, KEY_B, false)));
    assert!(!active(&mut unit));
}

#[test]
fn power_loss_keeps_state_with_aptpl() {
    for aptpl in [true, false] {
        let mut unit = TestUnit::new();
        let list = BasicParameterList {
            aptpl,
            ..basic(0, KEY_A)
        };
        unit.expect_good(A, &register_with(&list));
        unit.expect_good(A, &reserve(KEY_A, EXCLUSIVE_ACCESS));
        unit.inner.lose_power();
        for node in [A, B, C] {
            unit.expect_unit_attention(node, 0x29, 0x00);
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

fn all_tg_pt_list(key: u64, new: u64) -> BasicParameterList {
    BasicParameterList {
        all_tg_pt: true,
        ..basic(key, new)
    }
}

#[test]
fn all_tg_pt_shares_a_full_status_descriptor() {
    let mut unit = two_paths();
    unit.expect_good(A, &register_with(&all_tg_pt_list(0, KEY_A)));
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
    unit.expect_good(A, &register_with(&all_tg_pt_list(0, KEY_A)));
    unit.expect_good(A, &reserve(KEY_A, WRITE_ALL_REGISTRANTS));
    let status = unit.read_full_status().descriptors;
    assert!(status.len() == 1 && status[0].all_tg_pt && status[0].holder);
}

#[test]
fn all_tg_pt_conflict_registers_no_port() {
    let mut unit = two_paths();
    unit.expect_good(B, &register(0, KEY_B));
    unit.expect_conflict(A, &register_with(&all_tg_pt_list(0, KEY_A)));
    unit.expect_good(A, &register_and_ignore(&all_tg_pt_list(0, KEY_A)));
    unit.expect_keys(2, &[KEY_A, KEY_A]);
    unit.expect_good(A, &register_with(&all_tg_pt_list(KEY_A, 0)));
    unit.expect_keys(3, &[]);
}

fn spec_i_pt_list(key: u64, new: u64, nodes: &[Nexus]) -> BasicParameterList {
    BasicParameterList {
        spec_i_pt: Some(nodes.iter().map(|nexus| nexus.initiator.clone()).collect()),
        ..basic(key, new)
    }
}

#[test]
fn spec_i_pt_registers_named_initiator_ports() {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register_with(&spec_i_pt_list(0, KEY_A, &[nexus(B)])));
    unit.expect_keys(1, &[KEY_A, KEY_A]);
    unit.expect_good(B, &register(KEY_A, KEY_B));
    unit.expect_keys(2, &[KEY_A, KEY_B]);
    unit.expect_good(
        C,
        &register_with(&spec_i_pt_list(0, STALE, &[nexus(A), nexus(B)])),
    );
    unit.expect_keys(3, &[KEY_A, KEY_B, STALE]);
}

#[test]
fn spec_i_pt_empty_list_registers_sender_only() {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register_with(&spec_i_pt_list(0, KEY_A, &[])));
    unit.expect_keys(1, &[KEY_A]);
}

#[test]
fn spec_i_pt_registers_at_the_sender_port() {
    let at = |initiator, target_port: u16| Nexus {
        initiator: sas(initiator),
        target_port: target_port.into(),
    };
    let mut unit = TestUnit::with_nexuses(vec![at(1, 1), at(2, 1), at(2, 2)]);
    unit.expect_good(A, &register_with(&spec_i_pt_list(0, KEY_A, &[at(2, 1)])));
    assert_eq!(unit.inner.key(unit.id(B)), Some(KEY_A.into()));
    assert_eq!(unit.inner.key(unit.id(C)), None);
    unit.expect_good(A, &register(KEY_A, 0));
    unit.expect_good(B, &register(KEY_A, 0));
    let list = BasicParameterList {
        all_tg_pt: true,
        ..spec_i_pt_list(0, KEY_A, &[at(2, 1)])
    };
    unit.expect_good(A, &register_with(&list));
    unit.expect_keys(4, &[KEY_A; 3]);
}

/// SPC-4, 7.6.4.6: an iSCSI name without a session identifier names all ports of the device.
#[test]
fn spec_i_pt_iscsi_device_registers_its_ports() {
    let at = |initiator: &str, target_port: u16| Nexus {
        initiator: initiator.parse().unwrap(),
        target_port: target_port.into(),
    };
    let device = at("iqn.2024-01.example:a", 1);
    // The device has two ports at the target port of the first sender, one at that of the second
    // sender, and none at that of the third one.
    for (sender, registered) in [
        (1_u16, vec![0, 1, 4]),
        (2, vec![2, 4]),
        (3, vec![0, 1, 2, 4]),
    ] {
        let mut unit = TestUnit::with_nexuses(vec![
            at("iqn.2024-01.example:a,i,0x000000000001", 1),
            at("iqn.2024-01.example:a,i,0x000000000002", 1),
            at("iqn.2024-01.example:a,i,0x000000000003", 2),
            at("iqn.2024-01.example:b,i,0x000000000001", 1),
            at("sas,5001405000000001", sender),
        ]);
        let sender = unit.inner.nexuses().last().unwrap().0;
        let command = register_with(&spec_i_pt_list(0, KEY_A, std::slice::from_ref(&device)));
        let response = unit
            .inner
            .execute(sender, &command.cdb, &command.parameters);
        assert_eq!(response.status, Status::GOOD);
        let keys = unit.inner.nexuses().map(|(id, _)| unit.inner.key(id));
        let keys: Vec<_> = keys.enumerate().filter(|(_, key)| key.is_some()).collect();
        let indices: Vec<_> = keys.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, registered);
    }
}

#[test]
fn spec_i_pt_unknown_initiator_is_rejected() {
    let mut unit = TestUnit::new();
    let unknown = Nexus {
        initiator: sas(0xdead),
        ..nexus(A)
    };
    let list = spec_i_pt_list(0, KEY_A, &[nexus(B), unknown]);
    unit.expect_illegal(A, &register_with(&list), 0x26, 0);
}

#[test]
fn spec_i_pt_of_registered_node_is_rejected() {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_illegal(
        A,
        &register_with(&spec_i_pt_list(KEY_A, KEY_A, &[nexus(B)])),
        0x26,
        0,
    );
    unit.expect_illegal(
        A,
        &register_with(&spec_i_pt_list(KEY_A, 0, &[nexus(B)])),
        0x26,
        0,
    );
    unit.expect_illegal(
        B,
        &register_and_ignore(&spec_i_pt_list(0, KEY_B, &[nexus(A)])),
        0x26,
        0,
    );
}
