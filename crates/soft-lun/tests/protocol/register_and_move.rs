//! REGISTER AND MOVE.

use scsi_pr::{RegisterAndMove, ReservationType};

use crate::play::{
    A, B, C, KEY_A, KEY_B, Play, STALE, WRITE_ALL, WRITE_EXCLUSIVE, moving, register, reserve, sas,
    to,
};

/// A registered alone, and holding.
fn holding() -> Play {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.good(A, &reserve(KEY_A, WRITE_EXCLUSIVE));
    play
}

#[test]
fn the_reservation_moves_to_a_new_registrant() {
    for (unregister, left) in [(false, vec![KEY_A, KEY_B]), (true, vec![KEY_B])] {
        let mut play = holding();
        let list = RegisterAndMove {
            unregister,
            ..to(B, KEY_A, KEY_B)
        };
        play.good(A, &moving(&list));
        play.keys(2, &left);
        play.reservation(Some((KEY_B, WRITE_EXCLUSIVE)));
        play.ready(&[A, B, C]);
        assert!(play.unit.can_write(play.id(B)) && !play.unit.can_write(play.id(A)));
    }
}

#[test]
fn one_that_is_registered_gets_the_new_key() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        if kind.is_all_registrants() {
            play.conflict(A, &moving(&to(B, KEY_A, STALE)));
            continue;
        }
        play.good(A, &moving(&to(B, KEY_A, STALE)));
        play.keys(3, &[KEY_A, STALE]);
        play.reservation(Some((STALE, kind)));
        play.ready(&[A, B, C]);
    }
}

#[test]
fn aptpl_counts_here_too() {
    let mut play = holding();
    let list = RegisterAndMove {
        aptpl: true,
        ..to(B, KEY_A, KEY_B)
    };
    play.good(A, &moving(&list));
    assert!(play.unit.aptpl());
}

#[test]
fn who_does_not_hold_conflicts() {
    let mut play = Play::held(WRITE_EXCLUSIVE);
    play.conflict(B, &moving(&to(C, KEY_B, STALE)));
    play.conflict(C, &moving(&to(B, 0, STALE)));
    play.conflict(A, &moving(&to(B, STALE, KEY_B)));
    let mut play = Play::held(WRITE_ALL);
    play.conflict(A, &moving(&to(B, KEY_A, KEY_B)));
}

#[test]
fn nothing_to_move_is_a_wrong_command() {
    let mut play = Play::new();
    play.conflict(A, &moving(&to(B, 0, KEY_B)));
    play.good(A, &register(0, KEY_A));
    play.illegal(A, &moving(&to(B, KEY_A, KEY_B)), 0x24, 0);
}

#[test]
fn the_destination_is_another_known_port() {
    let mut play = holding();
    let good = to(B, KEY_A, KEY_B);
    for list in [
        to(B, KEY_A, 0),
        to(A, KEY_A, KEY_B),
        RegisterAndMove {
            relative_target_port: 2.into(),
            ..to(A, KEY_A, KEY_B)
        },
        RegisterAndMove {
            relative_target_port: 99.into(),
            ..good.clone()
        },
        RegisterAndMove {
            transport_id: sas(0xdead),
            ..good.clone()
        },
        RegisterAndMove {
            transport_id: "iqn.2024-01.example:a".parse().unwrap(),
            ..good
        },
    ] {
        play.illegal(A, &moving(&list), 0x26, 0);
    }
}
