//! Invalid commands, and the order in which errors are detected.

use scsi_pr::{OutServiceAction, Status};
use soft_lun::{LogicalUnit, Nexus, NexusError};

use crate::test_unit::{
    A, B, C, Command, EXCLUSIVE_ACCESS, KEY_A, KEY_B, TestUnit, WRITE_EXCLUSIVE, basic, move_to,
    nexus, out, preempt, register, register_and_move, reserve,
};

fn registered() -> TestUnit {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register(0, KEY_A));
    unit
}

#[test]
fn unknown_opcode_is_rejected() {
    let mut unit = registered();
    for opcode in [0x00, 0x12, 0x16, 0x5d, 0x60, 0xff] {
        let command = Command {
            cdb: vec![opcode; 16],
            parameters: Vec::new(),
        };
        unit.expect_illegal(A, &command, 0x20, 0);
    }
}

#[test]
fn reserved_service_action_is_rejected() {
    let mut unit = registered();
    for code in 9..32 {
        let mut command = register(KEY_A, KEY_A);
        command.cdb[1] = code;
        unit.expect_illegal(A, &command, 0x24, 0);
    }
    for code in 4..32 {
        let cdb = vec![0x5e, code, 0, 0, 0, 0, 0, 0, 255, 0];
        let parameters = Vec::new();
        unit.expect_illegal(A, &Command { cdb, parameters }, 0x24, 0);
    }
}

#[test]
fn replace_lost_reservation_is_rejected() {
    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    for node in [A, B, C] {
        let list = basic(KEY_A, KEY_B).encode();
        let command = out(OutServiceAction::ReplaceLostReservation, 1, list);
        unit.expect_illegal(node, &command, 0x24, 0);
    }
}

#[test]
fn short_cdb_is_rejected() {
    let mut unit = registered();
    for length in 0..10 {
        let mut command = register(KEY_A, KEY_B);
        command.cdb.truncate(length);
        unit.expect_illegal(A, &command, 0x24, 0);
    }
}

#[test]
fn reserved_type_or_scope_is_rejected() {
    for code in [0, 2, 4, 9, 15, 0x11, 0x21, 0xf1] {
        let mut unit = registered();
        let list = |victim| basic(KEY_A, victim).encode();
        unit.expect_illegal(A, &out(OutServiceAction::Reserve, code, list(0)), 0x24, 0);
        unit.expect_good(A, &reserve(KEY_A, WRITE_EXCLUSIVE));
        unit.expect_conflict(A, &out(OutServiceAction::Reserve, code, list(0)));
        unit.expect_illegal(
            A,
            &out(OutServiceAction::Preempt, code, list(KEY_A)),
            0x24,
            0,
        );
    }
}

#[test]
fn basic_list_of_wrong_length_is_rejected() {
    let mut unit = registered();
    for length in [0, 1, 23, 25, 32, 200] {
        for action in OutServiceAction::ALL.into_iter().take(7) {
            let mut list = basic(KEY_A, KEY_A).encode();
            list.resize(length, 0);
            unit.expect_illegal(A, &out(action, 1, list), 0x1a, 0);
        }
    }
}

#[test]
fn parameter_list_length_limits_the_list() {
    let mut unit = registered();
    let mut command = reserve(KEY_A, WRITE_EXCLUSIVE);
    command.parameters.truncate(23);
    unit.expect_illegal(A, &command, 0x1a, 0);
    command.parameters.resize(64, 0xff);
    command.parameters.splice(..24, basic(KEY_A, 0).encode());
    unit.expect_good(A, &command);
}

#[test]
fn truncated_transport_id_list_is_rejected() {
    let mut unit = TestUnit::new();
    let mut list = basic(0, KEY_A).encode();
    list[20] = 0x08;
    unit.expect_illegal(
        A,
        &out(OutServiceAction::Register, 0, list.clone()),
        0x26,
        0,
    );
    list.extend([0, 0, 0, 24, 6]);
    unit.expect_illegal(A, &out(OutServiceAction::Register, 0, list), 0x26, 0);

    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    let mut command = register_and_move(&move_to(B, KEY_A, KEY_B));
    command.parameters[23] = 25;
    unit.expect_illegal(A, &command, 0x26, 0);
    command.cdb[8] = 23;
    unit.expect_illegal(A, &command, 0x1a, 0);
}

#[test]
fn conflict_precedes_invalid_list() {
    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    for (node, action) in [
        (B, OutServiceAction::Reserve),
        (B, OutServiceAction::RegisterAndMove),
        (C, OutServiceAction::Reserve),
        (C, OutServiceAction::Release),
        (C, OutServiceAction::Clear),
        (C, OutServiceAction::Preempt),
        (C, OutServiceAction::PreemptAndAbort),
        (C, OutServiceAction::RegisterAndMove),
    ] {
        unit.expect_conflict(node, &out(action, 0xff, Vec::new()));
    }
    unit.expect_illegal(B, &out(OutServiceAction::Preempt, 1, Vec::new()), 0x1a, 0);
}

#[test]
fn wrong_key_precedes_invalid_scope_and_type() {
    let mut unit = registered();
    let mut command = preempt(KEY_B, KEY_A, EXCLUSIVE_ACCESS);
    command.cdb[2] = 0xff;
    unit.expect_conflict(A, &command);
}

#[test]
fn nexus_of_another_unit_is_not_supported() {
    let unit = TestUnit::new();
    let id = unit.id(C);
    let mut small = LogicalUnit::new(vec![nexus(A)]).unwrap();
    let command = register(0, KEY_A);
    let response = small.execute(id, &command.cdb, &command.parameters);
    assert_eq!(response.status, Status::CHECK_CONDITION);
    let code = response.sense.unwrap().code;
    assert_eq!((code.asc, code.ascq), (0x25, 0));
}

#[test]
fn invalid_nexus_list_is_rejected() {
    let nexus = |initiator: &str, port: u16| Nexus {
        initiator: initiator.parse().unwrap(),
        target_port: port.into(),
    };
    let sas = nexus("sas,5001405000000001", 1);
    let device = nexus("iqn.2024-01.example:a", 1);
    let zero = nexus("sas,5001405000000001", 0);
    let other = nexus("sas,5001405000000002", 1);
    for (list, error) in [
        (vec![sas.clone(), zero], NexusError::TargetPortZero),
        (
            vec![device.clone()],
            NexusError::InitiatorDevice(device.initiator),
        ),
        (
            vec![sas.clone(), other, sas.clone()],
            NexusError::Duplicate(sas),
        ),
    ] {
        assert_eq!(LogicalUnit::new(list), Err(error));
    }
}
