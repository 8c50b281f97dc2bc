// SPDX-License-Identifier: MIT OR Apache-2.0

//! REGISTER AND MOVE.

use pr_testkit::cdb::{register, register_and_move, reserve};
use scsi_pr::RegisterAndMove;

use crate::test_unit::{A, B, INVALID_LIST, KEY_A, KEY_B, TestUnit, WRITE_EXCLUSIVE, move_to, sas};

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
            aptpl: unregister,
            ..move_to(B, KEY_A, KEY_B)
        };
        unit.expect_good(A, &register_and_move(&list));
        unit.expect_keys(2, &left);
        unit.expect_reservation(Some((KEY_B, WRITE_EXCLUSIVE)));
        unit.expect_ready();
        assert!(unit.inner.can_write(unit.id(B)) && !unit.inner.can_write(unit.id(A)));
        assert_eq!(unit.inner.aptpl(), unregister);
    }
}

#[test]
fn move_to_invalid_destination_is_rejected() {
    let mut unit = reserved_by_a();
    let good = move_to(B, KEY_A, KEY_B);
    let to_port = |node, port: u16| RegisterAndMove {
        relative_target_port: port.into(),
        ..move_to(node, KEY_A, KEY_B)
    };
    let to_initiator = |transport_id| RegisterAndMove {
        transport_id,
        ..good.clone()
    };
    for list in [
        move_to(B, KEY_A, 0),
        move_to(A, KEY_A, KEY_B),
        to_port(A, 2),
        to_port(B, 99),
        to_initiator(sas(0xdead)),
        to_initiator("iqn.2024-01.example:a".parse().unwrap()),
    ] {
        unit.expect_illegal(A, &register_and_move(&list), INVALID_LIST);
    }
}
