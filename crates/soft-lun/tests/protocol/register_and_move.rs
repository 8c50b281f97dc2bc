//! REGISTER AND MOVE.

use scsi_pr::RegisterAndMove;

use crate::test_unit::{
    A, B, C, KEY_A, KEY_B, TestUnit, WRITE_EXCLUSIVE, move_to, register, register_and_move,
    reserve, sas,
};

/// Creates a unit that is registered and reserved by A only.
fn reserved_by_a() -> TestUnit {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_good(A, &reserve(KEY_A, WRITE_EXCLUSIVE));
    unit
}

#[test]
fn move_to_new_registrant_moves_reservation() {
    for (unregister, left) in [(false, vec![KEY_A, KEY_B]), (true, vec![KEY_B])] {
        let mut unit = reserved_by_a();
        let list = RegisterAndMove {
            unregister,
            ..move_to(B, KEY_A, KEY_B)
        };
        unit.expect_good(A, &register_and_move(&list));
        unit.expect_keys(2, &left);
        unit.expect_reservation(Some((KEY_B, WRITE_EXCLUSIVE)));
        unit.expect_ready(&[A, B, C]);
        assert!(unit.inner.can_write(unit.id(B)) && !unit.inner.can_write(unit.id(A)));
    }
}

#[test]
fn move_with_aptpl_sets_aptpl() {
    let mut unit = reserved_by_a();
    let list = RegisterAndMove {
        aptpl: true,
        ..move_to(B, KEY_A, KEY_B)
    };
    unit.expect_good(A, &register_and_move(&list));
    assert!(unit.inner.aptpl());
}

#[test]
fn move_without_reservation_is_rejected() {
    let mut unit = TestUnit::new();
    unit.expect_conflict(A, &register_and_move(&move_to(B, 0, KEY_B)));
    unit.expect_good(A, &register(0, KEY_A));
    unit.expect_illegal(A, &register_and_move(&move_to(B, KEY_A, KEY_B)), 0x24, 0);
}

#[test]
fn move_to_invalid_destination_is_rejected() {
    let mut unit = reserved_by_a();
    let good = move_to(B, KEY_A, KEY_B);
    for list in [
        move_to(B, KEY_A, 0),
        move_to(A, KEY_A, KEY_B),
        RegisterAndMove {
            relative_target_port: 2.into(),
            ..move_to(A, KEY_A, KEY_B)
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
        unit.expect_illegal(A, &register_and_move(&list), 0x26, 0);
    }
}
