//! REGISTER and REGISTER AND IGNORE EXISTING KEY, `APTPL`, `ALL_TG_PT`, `SPEC_I_PT`.

use scsi_pr::{BasicParameterList, Capabilities, InServiceAction, ReservationType};
use soft_lun::Nexus;

use crate::play::{
    A, B, C, EXCLUSIVE, KEY_A, KEY_B, Play, STALE, WRITE_ALL, WRITE_EXCLUSIVE, ask, basic, nexus,
    register, register_and_ignore, register_with, reserve, sas, shown,
};

#[test]
fn a_key_is_registered_changed_and_removed() {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.keys(1, &[KEY_A]);
    play.good(A, &register(KEY_A, KEY_B));
    play.keys(2, &[KEY_B]);
    play.good(A, &register(KEY_B, 0));
    play.keys(3, &[]);
}

#[test]
fn a_wrong_key_conflicts() {
    let mut play = Play::new();
    play.conflict(A, &register(STALE, KEY_A));
    play.conflict(A, &register(STALE, 0));
    play.good(A, &register(0, KEY_A));
    play.conflict(A, &register(STALE, KEY_B));
    play.conflict(A, &register(0, KEY_B));
    play.conflict(A, &register(STALE, 0));
    play.conflict(B, &register(KEY_A, KEY_B));
    play.keys(1, &[KEY_A]);
}

#[test]
fn key_zero_of_an_unregistered_node_does_nothing() {
    let mut play = Play::new();
    let list = BasicParameterList {
        aptpl: true,
        ..basic(0, 0)
    };
    let before = play.unit.clone();
    play.good(A, &register_with(&list));
    play.good(A, &register_and_ignore(&list));
    play.good(A, &register_and_ignore(&basic(STALE, 0)));
    assert_eq!(play.unit, before);
}

#[test]
fn the_existing_key_can_be_ignored() {
    let mut play = Play::new();
    play.good(A, &register_and_ignore(&basic(STALE, KEY_A)));
    play.good(A, &register_and_ignore(&basic(STALE, KEY_B)));
    play.keys(2, &[KEY_B]);
    play.good(A, &register_and_ignore(&basic(STALE, 0)));
    play.keys(3, &[]);
}

#[test]
fn two_nodes_may_have_the_same_key() {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.good(B, &register(0, KEY_A));
    play.keys(2, &[KEY_A, KEY_A]);
    play.good(A, &register(KEY_A, 0));
    play.keys(3, &[KEY_A]);
}

#[test]
fn a_holder_keeps_the_reservation_under_a_new_key() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.good(A, &register(KEY_A, STALE));
        play.reservation(Some((shown(STALE, kind), kind)));
        play.ready(&[A, B, C]);
    }
}

#[test]
fn the_reservation_goes_with_its_one_holder() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.good(A, &register(KEY_A, 0));
        if kind.is_registrants_only() {
            play.told(B, 0x2a, 0x04);
        }
        play.ready(&[A, B, C]);
        play.reservation(kind.is_all_registrants().then_some((0, kind)));
        play.good(B, &register(KEY_B, 0));
        play.reservation(None);
        play.ready(&[A, B, C]);
    }
}

#[test]
fn another_node_unregisters_without_a_trace() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.good(B, &register(KEY_B, 0));
        play.reservation(Some((shown(KEY_A, kind), kind)));
        play.ready(&[A, B, C]);
    }
}

#[test]
fn aptpl_is_what_the_last_registration_said() {
    let mut play = Play::new();
    let active = |play: &mut Play| {
        let data = play.good(C, &ask(InServiceAction::ReportCapabilities, 8));
        let capabilities = Capabilities::decode(&data).unwrap();
        capabilities.persist_through_power_loss_active
    };
    let list = |key, new, aptpl| BasicParameterList {
        aptpl,
        ..basic(key, new)
    };
    assert!(!active(&mut play));
    play.good(A, &register_with(&list(0, KEY_A, true)));
    assert!(active(&mut play));
    play.conflict(B, &register_with(&list(STALE, KEY_B, false)));
    assert!(active(&mut play));
    play.good(B, &register_and_ignore(&list(0, KEY_B, false)));
    assert!(!active(&mut play));
}

#[test]
fn power_loss_leaves_what_aptpl_promised() {
    for aptpl in [true, false] {
        let mut play = Play::new();
        let list = BasicParameterList {
            aptpl,
            ..basic(0, KEY_A)
        };
        play.good(A, &register_with(&list));
        play.good(A, &reserve(KEY_A, EXCLUSIVE));
        play.unit.lose_power();
        for node in [A, B, C] {
            play.told(node, 0x29, 0x00);
        }
        let keys: &[u64] = if aptpl { &[KEY_A] } else { &[] };
        play.keys(0, keys);
        play.reservation(aptpl.then_some((KEY_A, EXCLUSIVE)));
    }
}

/// A at two target ports, and C at the second one.
fn two_paths() -> Play {
    let second = Nexus {
        target_port: 2.into(),
        ..nexus(A)
    };
    Play::of(vec![nexus(A), second, nexus(C)])
}

fn on_all_ports(key: u64, new: u64) -> BasicParameterList {
    BasicParameterList {
        all_tg_pt: true,
        ..basic(key, new)
    }
}

#[test]
fn all_target_ports_register_at_once_and_show_as_one() {
    let mut play = two_paths();
    play.good(A, &register_with(&on_all_ports(0, KEY_A)));
    play.keys(1, &[KEY_A, KEY_A]);
    let status = play.full_status().descriptors;
    assert_eq!(status.len(), 1);
    assert!(status[0].all_tg_pt && status[0].key.get() == KEY_A);

    // Alike no longer: one of the two holds, then one has another key.
    play.good(B, &reserve(KEY_A, WRITE_EXCLUSIVE));
    let status = play.full_status().descriptors;
    assert_eq!(status.len(), 2);
    assert!(status.iter().all(|descriptor| !descriptor.all_tg_pt));
    assert_eq!([1, 2], [0, 1].map(|n| status[n].relative_target_port.get()));
    play.good(A, &register(KEY_A, KEY_B));
    assert_eq!(play.full_status().descriptors.len(), 2);
}

#[test]
fn all_registrants_hold_in_one_descriptor() {
    let mut play = two_paths();
    play.good(A, &register_with(&on_all_ports(0, KEY_A)));
    play.good(A, &reserve(KEY_A, WRITE_ALL));
    let status = play.full_status().descriptors;
    assert!(status.len() == 1 && status[0].all_tg_pt && status[0].holder);
}

#[test]
fn all_target_ports_or_none() {
    let mut play = two_paths();
    play.good(B, &register(0, KEY_B));
    play.conflict(A, &register_with(&on_all_ports(0, KEY_A)));
    play.good(A, &register_and_ignore(&on_all_ports(0, KEY_A)));
    play.keys(2, &[KEY_A, KEY_A]);
    play.good(A, &register_with(&on_all_ports(KEY_A, 0)));
    play.keys(3, &[]);
}

fn naming(key: u64, new: u64, nodes: &[Nexus]) -> BasicParameterList {
    BasicParameterList {
        spec_i_pt: Some(nodes.iter().map(|nexus| nexus.initiator.clone()).collect()),
        ..basic(key, new)
    }
}

#[test]
fn named_initiator_ports_are_registered_with_the_sender() {
    let mut play = Play::new();
    play.good(A, &register_with(&naming(0, KEY_A, &[nexus(B)])));
    play.keys(1, &[KEY_A, KEY_A]);
    play.good(B, &register(KEY_A, KEY_B));
    play.keys(2, &[KEY_A, KEY_B]);
    play.good(C, &register_with(&naming(0, STALE, &[nexus(A), nexus(B)])));
    play.keys(3, &[KEY_A, KEY_B, STALE]);
}

#[test]
fn a_list_without_names_is_a_plain_registration() {
    let mut play = Play::new();
    play.good(A, &register_with(&naming(0, KEY_A, &[])));
    play.keys(1, &[KEY_A]);
}

#[test]
fn a_named_port_is_registered_where_the_sender_is() {
    let at = |initiator, target_port: u16| Nexus {
        initiator: sas(initiator),
        target_port: target_port.into(),
    };
    let mut play = Play::of(vec![at(1, 1), at(2, 1), at(2, 2)]);
    play.good(A, &register_with(&naming(0, KEY_A, &[at(2, 1)])));
    assert_eq!(play.unit.key_of(play.id(B)), Some(KEY_A.into()));
    assert_eq!(play.unit.key_of(play.id(C)), None);
    play.good(A, &register(KEY_A, 0));
    play.good(B, &register(KEY_A, 0));
    let list = BasicParameterList {
        all_tg_pt: true,
        ..naming(0, KEY_A, &[at(2, 1)])
    };
    play.good(A, &register_with(&list));
    play.keys(4, &[KEY_A; 3]);
}

#[test]
fn one_stranger_spoils_the_list() {
    let mut play = Play::new();
    let stranger = Nexus {
        initiator: sas(0xdead),
        ..nexus(A)
    };
    let list = naming(0, KEY_A, &[nexus(B), stranger]);
    play.illegal(A, &register_with(&list), 0x26, 0);
}

#[test]
fn a_registered_node_names_nobody() {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.illegal(
        A,
        &register_with(&naming(KEY_A, KEY_A, &[nexus(B)])),
        0x26,
        0,
    );
    play.illegal(A, &register_with(&naming(KEY_A, 0, &[nexus(B)])), 0x26, 0);
    play.illegal(
        B,
        &register_and_ignore(&naming(0, KEY_B, &[nexus(A)])),
        0x26,
        0,
    );
}
