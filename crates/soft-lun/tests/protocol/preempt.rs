//! PREEMPT and PREEMPT AND ABORT.

use scsi_pr::ReservationType;

use crate::play::{
    A, B, C, EXCLUSIVE, KEY_A, KEY_B, Play, STALE, WRITE_ALL, WRITE_EXCLUSIVE, WRITE_REGISTRANTS,
    other, preempt, preempt_and_abort, register, reserve, shown,
};

fn single_holder() -> impl Iterator<Item = ReservationType> {
    ReservationType::ALL
        .into_iter()
        .filter(|kind| !kind.is_all_registrants())
}

fn all_registrants() -> impl Iterator<Item = ReservationType> {
    ReservationType::ALL
        .into_iter()
        .filter(|kind| kind.is_all_registrants())
}

#[test]
fn the_holder_is_replaced_and_told() {
    for kind in single_holder() {
        for send in [preempt, preempt_and_abort] {
            let mut play = Play::held(kind);
            play.good(B, &send(KEY_B, KEY_A, kind));
            play.told(A, 0x2a, 0x05);
            play.ready(&[A, B, C]);
            play.keys(3, &[KEY_B]);
            play.reservation(Some((KEY_B, kind)));
            play.conflict(A, &reserve(KEY_A, kind));
        }
    }
}

#[test]
fn the_new_type_may_be_another_and_the_rest_is_told() {
    for kind in single_holder() {
        for new in ReservationType::ALL {
            let mut play = Play::held(kind);
            play.good(C, &register(0, STALE));
            play.good(B, &preempt(KEY_B, KEY_A, new));
            play.told(A, 0x2a, 0x05);
            if new != kind {
                play.told(C, 0x2a, 0x04);
            }
            play.ready(&[A, B, C]);
            play.reservation(Some((shown(KEY_B, new), new)));
        }
    }
}

#[test]
fn a_holder_may_preempt_itself_to_change_the_type() {
    for kind in single_holder() {
        let mut play = Play::held(kind);
        play.good(A, &preempt(KEY_A, KEY_A, kind));
        play.ready(&[A, B, C]);
        play.good(A, &preempt(KEY_A, KEY_A, other(kind)));
        play.told(B, 0x2a, 0x04);
        play.ready(&[A, B, C]);
        play.keys(4, &[KEY_A, KEY_B]);
        play.reservation(Some((KEY_A, other(kind))));
    }
}

#[test]
fn who_has_the_holder_s_key_too_survives_its_own_preempt() {
    let mut play = Play::held(WRITE_EXCLUSIVE);
    play.good(B, &register(KEY_B, KEY_A));
    play.good(C, &register(0, KEY_A));
    play.good(B, &preempt(KEY_A, KEY_A, WRITE_EXCLUSIVE));
    play.told(A, 0x2a, 0x05);
    play.told(C, 0x2a, 0x05);
    play.keys(5, &[KEY_A]);
    assert!(play.unit.is_holder(play.id(B)));
}

#[test]
fn one_that_does_not_hold_loses_its_registration_alone() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        // Scope and type are ignored here.
        let mut command = preempt(KEY_A, KEY_B, other(kind));
        command.cdb[2] |= 0xf0;
        play.good(A, &command);
        play.told(B, 0x2a, 0x05);
        play.ready(&[A, B, C]);
        play.keys(3, &[KEY_A]);
        play.reservation(Some((shown(KEY_A, kind), kind)));
    }
}

#[test]
fn registrations_are_removed_without_a_reservation() {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.good(B, &register(0, KEY_B));
    play.good(A, &preempt(KEY_A, KEY_B, WRITE_EXCLUSIVE));
    play.told(B, 0x2a, 0x05);
    play.keys(3, &[KEY_A]);
    play.reservation(None);
}

#[test]
fn one_s_own_key_is_removed_unless_it_is_the_holder_s() {
    let mut play = Play::held(WRITE_REGISTRANTS);
    play.good(B, &preempt(KEY_B, KEY_B, WRITE_EXCLUSIVE));
    play.ready(&[A, B, C]);
    play.keys(3, &[KEY_A]);
    play.reservation(Some((KEY_A, WRITE_REGISTRANTS)));
}

#[test]
fn all_registrants_are_removed_by_key_zero() {
    for kind in all_registrants() {
        for new in ReservationType::ALL {
            let mut play = Play::held(kind);
            play.good(C, &register(0, STALE));
            play.good(B, &preempt(KEY_B, 0, new));
            play.told(A, 0x2a, 0x05);
            play.told(C, 0x2a, 0x05);
            play.ready(&[A, B, C]);
            play.keys(4, &[KEY_B]);
            play.reservation(Some((shown(KEY_B, new), new)));
        }
    }
}

#[test]
fn a_key_among_all_registrants_loses_its_registration_alone() {
    for kind in all_registrants() {
        let mut play = Play::held(kind);
        play.good(B, &preempt(KEY_B, KEY_A, EXCLUSIVE));
        play.told(A, 0x2a, 0x05);
        play.reservation(Some((0, kind)));
        // And the last of them takes the reservation with it.
        play.good(B, &preempt(KEY_B, KEY_B, EXCLUSIVE));
        play.keys(4, &[]);
        play.reservation(None);
        play.ready(&[A, B, C]);
    }
}

#[test]
fn key_zero_is_for_all_registrants_alone() {
    for kind in single_holder() {
        let mut play = Play::held(kind);
        play.illegal(B, &preempt(KEY_B, 0, kind), 0x26, 0);
    }
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.illegal(A, &preempt(KEY_A, 0, WRITE_ALL), 0x26, 0);
}

#[test]
fn an_unknown_key_conflicts() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.conflict(B, &preempt(KEY_B, STALE, kind));
        play.conflict(B, &preempt_and_abort(KEY_B, STALE, kind));
        play.conflict(B, &preempt(KEY_A, KEY_A, kind));
        play.conflict(C, &preempt(0, KEY_A, kind));
    }
}
