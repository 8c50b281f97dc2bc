//! PERSISTENT RESERVE IN: content and truncation.

use scsi_pr::{InServiceAction, ReservationType, truncate};

use crate::play::{A, B, C, EXCLUSIVE, KEY_A, KEY_B, Play, ask, nexus, register};

#[test]
fn a_clean_unit_has_nothing() {
    let mut play = Play::new();
    let empty = vec![0; 8];
    assert_eq!(play.good(A, &ask(InServiceAction::ReadKeys, 255)), empty);
    assert_eq!(
        play.good(A, &ask(InServiceAction::ReadReservation, 255)),
        empty
    );
    assert_eq!(
        play.good(A, &ask(InServiceAction::ReadFullStatus, 255)),
        empty
    );
}

#[test]
fn capabilities_are_all_but_those_of_old() {
    let mut play = Play::new();
    let data = play.good(A, &ask(InServiceAction::ReportCapabilities, 255));
    assert_eq!(data, [0, 8, 0x0d, 0x90, 0xea, 0x01, 0, 0]);
}

#[test]
fn every_length_gets_the_beginning_of_the_same() {
    let mut play = Play::held(EXCLUSIVE);
    for action in InServiceAction::ALL {
        let whole = play.good(C, &ask(action, u16::MAX));
        assert!(whole.len() >= 8);
        for length in 0..=130 {
            let data = play.good(C, &ask(action, length));
            assert_eq!(data, truncate(&whole, length), "{action} {length}");
        }
    }
}

#[test]
fn full_status_names_holders_and_ports() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        let status = play.full_status();
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
fn registrations_are_listed_as_they_were_made() {
    let mut play = Play::new();
    play.good(B, &register(0, KEY_B));
    play.good(A, &register(0, KEY_A));
    play.good(B, &register(KEY_B, 7));
    play.keys(3, &[7, KEY_A]);
}
