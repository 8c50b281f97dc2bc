//! RESERVE, RELEASE, CLEAR, and what a reservation forbids.

use scsi_pr::{ReservationType, Status};
use soft_lun::Access;

use crate::play::{
    A, B, C, EXCLUSIVE, KEY_A, KEY_B, Play, STALE, WRITE_EXCLUSIVE, WRITE_REGISTRANTS, clear,
    other, preempt, register, release, reserve, shown,
};

#[test]
fn every_type_can_be_reserved_and_is_not_counted() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.reservation(Some((shown(KEY_A, kind), kind)));
        play.keys(2, &[KEY_A, KEY_B]);
        play.ready(&[A, B, C]);
    }
}

#[test]
fn a_holder_may_reserve_the_same_again() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        let before = play.unit.clone();
        play.good(A, &reserve(KEY_A, kind));
        assert_eq!(play.unit, before);
        play.conflict(A, &reserve(KEY_A, other(kind)));
    }
}

#[test]
fn another_node_may_only_if_all_hold() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        if kind.is_all_registrants() {
            play.good(B, &reserve(KEY_B, kind));
        } else {
            play.conflict(B, &reserve(KEY_B, kind));
        }
        play.conflict(B, &reserve(KEY_B, other(kind)));
        play.conflict(C, &reserve(0, kind));
    }
}

#[test]
fn one_must_be_registered_and_know_its_key() {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    for (node, key) in [(A, STALE), (A, 0), (B, KEY_A), (B, 0)] {
        play.conflict(node, &reserve(key, WRITE_EXCLUSIVE));
        play.conflict(node, &release(key, WRITE_EXCLUSIVE));
        play.conflict(node, &clear(key));
        play.conflict(node, &preempt(key, KEY_A, WRITE_EXCLUSIVE));
    }
}

#[test]
fn release_tells_registrants_if_they_were_let_in() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.good(A, &release(KEY_A, kind));
        if kind.allows_registrants() {
            play.told(B, 0x2a, 0x04);
        }
        play.ready(&[A, B, C]);
        play.reservation(None);
        play.keys(2, &[KEY_A, KEY_B]);
    }
}

#[test]
fn release_of_what_one_does_not_hold_does_nothing() {
    for kind in ReservationType::ALL
        .into_iter()
        .filter(|kind| !kind.is_all_registrants())
    {
        let mut play = Play::held(kind);
        let before = play.unit.clone();
        play.good(B, &release(KEY_B, kind));
        play.good(B, &release(KEY_B, other(kind)));
        assert_eq!(play.unit, before);
        play.good(A, &release(KEY_A, kind));
        play.conflict(C, &release(0, kind));
    }
}

#[test]
fn each_of_all_registrants_may_release() {
    for kind in ReservationType::ALL
        .into_iter()
        .filter(|kind| kind.is_all_registrants())
    {
        let mut play = Play::held(kind);
        play.illegal(B, &release(KEY_B, other(kind)), 0x26, 0x04);
        play.good(B, &release(KEY_B, kind));
        play.told(A, 0x2a, 0x04);
        play.reservation(None);
    }
}

#[test]
fn a_holder_releases_exactly_what_it_holds() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.illegal(A, &release(KEY_A, other(kind)), 0x26, 0x04);
        let mut elsewhere = release(KEY_A, kind);
        elsewhere.cdb[2] |= 0x10;
        play.illegal(A, &elsewhere, 0x26, 0x04);
        play.conflict(A, &release(STALE, kind));
    }
}

#[test]
fn clear_removes_everything_and_tells_the_others() {
    for kind in ReservationType::ALL {
        let mut play = Play::held(kind);
        play.conflict(B, &clear(KEY_A));
        play.conflict(C, &clear(0));
        play.good(B, &clear(KEY_B));
        play.told(A, 0x2a, 0x03);
        play.ready(&[A, B, C]);
        play.keys(3, &[]);
        play.reservation(None);
    }
}

#[test]
fn clear_needs_no_reservation() {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play.good(A, &clear(KEY_A));
    play.keys(2, &[]);
}

/// SPC-4, 5.12: the holder, a registrant and a stranger, each reading and writing.
#[test]
fn access_is_that_of_the_table() {
    for (code, registrant, stranger) in [
        (1, (true, false), (true, false)),
        (3, (false, false), (false, false)),
        (5, (true, true), (true, false)),
        (6, (true, true), (false, false)),
        (7, (true, true), (true, false)),
        (8, (true, true), (false, false)),
    ] {
        let play = Play::held(ReservationType::from_code(code).unwrap());
        for (node, expected) in [(A, (true, true)), (B, registrant), (C, stranger)] {
            let id = play.id(node);
            let may = (play.unit.can_read(id), play.unit.can_write(id));
            assert_eq!(may, expected, "{code} {node:?}");
        }
    }
}

#[test]
fn without_a_reservation_all_may() {
    let mut play = Play::new();
    let id = play.id(A);
    assert!(play.unit.can_read(id) && play.unit.can_write(id));
    assert_eq!(play.unit.access(id, Access::Write).status, Status::GOOD);
}

#[test]
fn a_stranger_may_test_the_unit_and_not_touch_it() {
    let mut play = Play::held(EXCLUSIVE);
    let id = play.id(C);
    for (access, status) in [
        (Access::TestUnitReady, Status::GOOD),
        (Access::Read, Status::RESERVATION_CONFLICT),
        (Access::Write, Status::RESERVATION_CONFLICT),
    ] {
        let answer = play.unit.access(id, access);
        assert_eq!((answer.status, answer.sense), (status, None));
    }
}

#[test]
fn whatever_comes_next_delivers_an_attention() {
    let mut play = Play::held(WRITE_REGISTRANTS);
    for access in [Access::TestUnitReady, Access::Read, Access::Write] {
        play.good(A, &release(KEY_A, WRITE_REGISTRANTS));
        let id = play.id(B);
        assert_eq!(play.unit.access(id, access).status, Status::CHECK_CONDITION);
        assert_eq!(play.unit.access(id, access).status, Status::GOOD);
        play.good(A, &reserve(KEY_A, WRITE_REGISTRANTS));
    }
}

#[test]
fn attentions_come_in_their_order_and_each_once() {
    let mut play = Play::held(WRITE_REGISTRANTS);
    for _ in 0..3 {
        play.good(A, &release(KEY_A, WRITE_REGISTRANTS));
        play.good(A, &reserve(KEY_A, WRITE_REGISTRANTS));
    }
    play.good(A, &preempt(KEY_A, KEY_B, WRITE_REGISTRANTS));
    play.told(B, 0x2a, 0x04);
    play.told(B, 0x2a, 0x05);
    play.ready(&[A, B, C]);
}

#[test]
fn a_command_that_meets_an_attention_is_not_done() {
    let mut play = Play::held(WRITE_REGISTRANTS);
    play.good(A, &release(KEY_A, WRITE_REGISTRANTS));
    let answer = play.send(B, &clear(KEY_B));
    assert_eq!(answer.status, Status::CHECK_CONDITION);
    play.keys(2, &[KEY_A, KEY_B]);
}
