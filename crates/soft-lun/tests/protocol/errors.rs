// SPDX-License-Identifier: MIT OR Apache-2.0

//! Invalid commands, and the order in which errors are detected.

use pr_testkit::cdb::{
    PrCommand, key_list, pr_in, pr_out, preempt, raw_pr_out, register, register_and_move, reserve,
};
use scsi_pr::{AdditionalSense, InServiceAction, OutServiceAction, ScopeType, Status};
use soft_lun::{LogicalUnit, NexusError};

use crate::test_unit::{
    A, B, C, EXCLUSIVE_ACCESS, INVALID_CDB, INVALID_LENGTH, INVALID_LIST, KEY_A, KEY_B, TestUnit,
    WRITE_EXCLUSIVE, move_to, nexus, nexus_at,
};

fn registered() -> TestUnit {
    let mut unit = TestUnit::new();
    unit.expect_good(A, &register(0, KEY_A));
    unit
}

/// Creates PERSISTENT RESERVE OUT with the type Write Exclusive and any parameter list.
fn with_list(action: OutServiceAction, list: Vec<u8>) -> PrCommand {
    raw_pr_out(action, WRITE_EXCLUSIVE.into(), list)
}

#[test]
fn unknown_opcode_is_rejected() {
    let mut unit = registered();
    for opcode in [0x00, 0x12, 0x16, 0x5d, 0x60, 0xff] {
        let command = PrCommand {
            cdb: [opcode; 16],
            parameter_list: Vec::new(),
        };
        unit.expect_illegal(A, &command, AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
    }
}

#[test]
fn reserved_service_action_is_rejected() {
    let mut unit = registered();
    let read = pr_in(InServiceAction::ReadKeys, 255);
    for (mut command, codes) in [(register(KEY_A, KEY_A), 9..32), (read, 4..32)] {
        for code in codes {
            command.cdb[1] = code;
            unit.expect_illegal(A, &command, INVALID_CDB);
        }
    }
}

#[test]
fn replace_lost_reservation_is_rejected() {
    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    let list = key_list(KEY_A, KEY_B).encode();
    let command = with_list(OutServiceAction::ReplaceLostReservation, list);
    for node in [A, B, C] {
        unit.expect_illegal(node, &command, INVALID_CDB);
    }
}

#[test]
fn short_cdb_is_rejected() {
    let unit = registered();
    let command = register(KEY_A, KEY_B);
    for length in 0..10 {
        let mut after = unit.inner.clone();
        let response = after.execute(unit.id(A), &command.cdb[..length], &command.parameter_list);
        assert_eq!(response.sense.unwrap().code, INVALID_CDB);
        assert_eq!(after, unit.inner);
    }
}

#[test]
fn reserved_type_or_scope_is_rejected() {
    for code in [0, 2, 4, 9, 15, 0x11, 0x21, 0xf1] {
        let mut unit = registered();
        let command = |action, victim| pr_out(action, ScopeType(code), &key_list(KEY_A, victim));
        let invalid = command(OutServiceAction::Reserve, 0);
        unit.expect_illegal(A, &invalid, INVALID_CDB);
        unit.expect_good(A, &reserve(KEY_A, WRITE_EXCLUSIVE));
        unit.expect_conflict(A, &invalid);
        unit.expect_illegal(A, &command(OutServiceAction::Preempt, KEY_A), INVALID_CDB);
    }
}

#[test]
fn basic_list_of_wrong_length_is_rejected() {
    let mut unit = registered();
    for length in [0, 1, 23, 25, 32, 200] {
        for action in OutServiceAction::ALL.into_iter().take(7) {
            let mut list = key_list(KEY_A, KEY_A).encode();
            list.resize(length, 0);
            unit.expect_illegal(A, &with_list(action, list), INVALID_LENGTH);
        }
    }
}

#[test]
fn parameter_list_length_limits_the_list() {
    let mut unit = registered();
    let mut command = reserve(KEY_A, WRITE_EXCLUSIVE);
    let list = command.parameter_list.clone();
    command.parameter_list.truncate(23);
    unit.expect_illegal(A, &command, INVALID_LENGTH);
    command.parameter_list = [list, vec![0xff; 40]].concat();
    unit.expect_good(A, &command);
}

#[test]
fn truncated_transport_id_list_is_rejected() {
    let mut unit = TestUnit::new();
    let mut list = key_list(0, KEY_A).encode();
    // SPEC_I_PT
    list[20] = 0x08;
    for tail in [&[][..], &[0, 0, 0, 24, 6]] {
        list.extend(tail);
        let command = with_list(OutServiceAction::Register, list.clone());
        unit.expect_illegal(A, &command, INVALID_LIST);
    }

    let mut unit = TestUnit::reserved(EXCLUSIVE_ACCESS);
    let mut command = register_and_move(&move_to(B, KEY_A, KEY_B));
    command.parameter_list[23] = 25;
    unit.expect_illegal(A, &command, INVALID_LIST);
    command.cdb[8] = 23;
    unit.expect_illegal(A, &command, INVALID_LENGTH);
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
        unit.expect_conflict(node, &raw_pr_out(action, ScopeType(0xff), Vec::new()));
    }
    let preempt = with_list(OutServiceAction::Preempt, Vec::new());
    unit.expect_illegal(B, &preempt, INVALID_LENGTH);
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
    let id = TestUnit::new().id(C);
    let mut small = LogicalUnit::new(vec![nexus(A)]).unwrap();
    let command = register(0, KEY_A);
    let response = small.execute(id, &command.cdb, &command.parameter_list);
    assert_eq!(response.status, Status::CHECK_CONDITION);
    let code = response.sense.unwrap().code;
    assert_eq!(code, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
}

#[test]
fn invalid_nexus_list_is_rejected() {
    let sas = nexus_at("sas,5001405000000001", 1);
    let device = nexus_at("iqn.2024-01.example:a", 1);
    let zero = nexus_at("sas,5001405000000001", 0);
    let other = nexus_at("sas,5001405000000002", 1);
    let expect = |list, error| assert_eq!(LogicalUnit::new(list), Err(error));
    expect(vec![sas.clone(), zero], NexusError::TargetPortZero);
    let list = vec![device.clone()];
    expect(list, NexusError::InitiatorDevice(device.initiator));
    let list = vec![sas.clone(), other, sas.clone()];
    expect(list, NexusError::Duplicate(sas));
}
