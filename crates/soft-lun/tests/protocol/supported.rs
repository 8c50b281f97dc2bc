//! A unit that supports less than everything says so, and refuses the rest.

use scsi_pr::{BasicParameterList, InServiceAction, RegisterAndMove, ReservationType, TypeMask};
use soft_lun::{SnapshotError, LogicalUnit, SupportedFeatures};

use crate::play::{
    A, B, C, EXCLUSIVE, KEY_A, KEY_B, Play, STALE, WRITE_EXCLUSIVE, ask, basic, moving, nexus,
    preempt, register, register_and_ignore, register_with, release, reserve, to,
};

const NOTHING: SupportedFeatures = SupportedFeatures {
    persist_through_power_loss: false,
    specify_initiator_ports: false,
    all_target_ports: false,
    types: TypeMask::new(0),
};

fn supporting(supported: SupportedFeatures) -> Play {
    let unit = LogicalUnit::new([A, B, C].map(nexus).to_vec()).unwrap();
    Play {
        unit: unit.with_features(supported),
    }
}

#[test]
fn capabilities_say_what_there_is() {
    let types = TypeMask::default().with(WRITE_EXCLUSIVE);
    for (supported, bits, mask) in [
        (NOTHING, 0x00, [0, 0]),
        (
            SupportedFeatures {
                persist_through_power_loss: true,
                ..NOTHING
            },
            0x01,
            [0, 0],
        ),
        (
            SupportedFeatures {
                all_target_ports: true,
                ..NOTHING
            },
            0x04,
            [0, 0],
        ),
        (
            SupportedFeatures {
                specify_initiator_ports: true,
                ..NOTHING
            },
            0x08,
            [0, 0],
        ),
        (SupportedFeatures { types, ..NOTHING }, 0x00, [2, 0]),
        (SupportedFeatures::default(), 0x0d, [0xea, 1]),
    ] {
        let mut play = supporting(supported);
        let data = play.good(A, &ask(InServiceAction::ReportCapabilities, 8));
        assert_eq!(data, [0, 8, bits, 0x90, mask[0], mask[1], 0, 0]);
        assert_eq!(play.unit.supported_features(), supported);
    }
}

#[test]
fn flags_without_support_are_invalid_fields() {
    let list = basic(0, KEY_A);
    let (mut aptpl, mut all_tg_pt, mut spec_i_pt) = (list.clone(), list.clone(), list.clone());
    aptpl.aptpl = true;
    all_tg_pt.all_tg_pt = true;
    spec_i_pt.spec_i_pt = Some(vec![nexus(B).initiator]);
    for list in [aptpl, all_tg_pt, spec_i_pt] {
        supporting(NOTHING).illegal(A, &register_with(&list), 0x26, 0);
        supporting(SupportedFeatures::default()).good(A, &register_with(&list));
        if list.spec_i_pt.is_none() {
            supporting(NOTHING).illegal(A, &register_and_ignore(&list), 0x26, 0);
        }
    }
    supporting(NOTHING).good(A, &register_with(&list));
}

#[test]
fn a_wrong_key_comes_before_a_flag_without_support() {
    let list = BasicParameterList {
        aptpl: true,
        ..basic(STALE, KEY_A)
    };
    supporting(NOTHING).conflict(A, &register_with(&list));
}

#[test]
fn a_flag_without_support_does_not_bring_other_keys_into_it() {
    let at = |target_port: u16| soft_lun::Nexus {
        target_port: target_port.into(),
        ..nexus(A)
    };
    let unit = LogicalUnit::new(vec![at(1), at(2)]).unwrap();
    let mut play = Play {
        unit: unit.with_features(NOTHING),
    };
    play.good(A, &register(0, KEY_A));
    play.good(B, &register(0, KEY_B));
    let mut list = basic(KEY_A, STALE);
    list.all_tg_pt = true;
    play.illegal(A, &register_with(&list), 0x26, 0);
}

#[test]
fn what_is_not_supported_cannot_be_restored() {
    let mut everything = Play::new();
    let mut list = basic(0, KEY_A);
    let refused = |play: &Play, what| {
        let mut nothing = supporting(NOTHING);
        let error = nothing.unit.restore(&play.unit.snapshot()).unwrap_err();
        assert_eq!(error, SnapshotError::Unsupported(what));
        assert_eq!(nothing.unit, supporting(NOTHING).unit);
    };
    list.all_tg_pt = true;
    everything.good(A, &register_with(&list));
    refused(&everything, "ALL_TG_PT");
    list.aptpl = true;
    everything.good(B, &register_with(&list));
    refused(&everything, "APTPL");
    let mut everything = Play::held(EXCLUSIVE);
    refused(&everything, "the reservation type");
    everything.good(A, &release(KEY_A, EXCLUSIVE));
    let mut nothing = supporting(NOTHING);
    nothing.unit.restore(&everything.unit.snapshot()).unwrap();
}

#[test]
fn moving_cannot_make_it_outlast_a_power_loss_either() {
    let mut play = supporting(SupportedFeatures {
        types: TypeMask::ALL,
        ..NOTHING
    });
    play.good(A, &register(0, KEY_A));
    play.good(A, &reserve(KEY_A, EXCLUSIVE));
    let list = to(B, KEY_A, KEY_B);
    play.illegal(
        A,
        &moving(&RegisterAndMove {
            aptpl: true,
            ..list.clone()
        }),
        0x26,
        0,
    );
    play.good(A, &moving(&list));
}

#[test]
fn types_that_there_are_not_can_be_neither_reserved_nor_taken_over() {
    for kind in ReservationType::ALL {
        let other = ReservationType::ALL
            .into_iter()
            .find(|other| *other != kind)
            .unwrap();
        let types = TypeMask::default().with(other);
        let mut play = supporting(SupportedFeatures {
            types,
            ..SupportedFeatures::default()
        });
        play.good(A, &register(0, KEY_A));
        play.good(B, &register(0, KEY_B));
        play.illegal(A, &reserve(KEY_A, kind), 0x24, 0);
        play.good(A, &reserve(KEY_A, other));
        let victim = if other.is_all_registrants() { 0 } else { KEY_A };
        play.illegal(B, &preempt(KEY_B, victim, kind), 0x24, 0);
        play.good(B, &preempt(KEY_B, victim, other));
    }
}
