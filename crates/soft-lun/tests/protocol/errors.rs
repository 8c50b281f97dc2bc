//! Commands that are wrong in themselves.

use scsi_pr::{OutServiceAction, Status};
use soft_lun::LogicalUnit;

use crate::play::{
    A, B, C, Command, EXCLUSIVE, KEY_A, KEY_B, Play, WRITE_EXCLUSIVE, basic, moving, nexus, out,
    preempt, register, reserve, to,
};

fn registered() -> Play {
    let mut play = Play::new();
    play.good(A, &register(0, KEY_A));
    play
}

#[test]
fn other_commands_are_not_known() {
    let mut play = registered();
    for opcode in [0x00, 0x12, 0x16, 0x5d, 0x60, 0xff] {
        let command = Command {
            cdb: vec![opcode; 16],
            parameters: Vec::new(),
        };
        play.illegal(A, &command, 0x20, 0);
    }
}

#[test]
fn reserved_service_actions_are_refused() {
    let mut play = registered();
    for code in 9..32 {
        let mut command = register(KEY_A, KEY_A);
        command.cdb[1] = code;
        play.illegal(A, &command, 0x24, 0);
    }
    for code in 4..32 {
        let cdb = vec![0x5e, code, 0, 0, 0, 0, 0, 0, 255, 0];
        let parameters = Vec::new();
        play.illegal(A, &Command { cdb, parameters }, 0x24, 0);
    }
}

#[test]
fn replace_lost_reservation_is_not_supported() {
    let mut play = Play::held(EXCLUSIVE);
    for node in [A, B, C] {
        let list = basic(KEY_A, KEY_B).encode();
        let command = out(OutServiceAction::ReplaceLostReservation, 1, list);
        play.illegal(node, &command, 0x24, 0);
    }
}

#[test]
fn a_short_cdb_is_refused() {
    let mut play = registered();
    for length in 0..10 {
        let mut command = register(KEY_A, KEY_B);
        command.cdb.truncate(length);
        play.illegal(A, &command, 0x24, 0);
    }
}

#[test]
fn reserved_types_and_scopes_are_refused() {
    for code in [0, 2, 4, 9, 15, 0x11, 0x21, 0xf1] {
        let mut play = registered();
        let list = |victim| basic(KEY_A, victim).encode();
        play.illegal(A, &out(OutServiceAction::Reserve, code, list(0)), 0x24, 0);
        play.good(A, &reserve(KEY_A, WRITE_EXCLUSIVE));
        play.conflict(A, &out(OutServiceAction::Reserve, code, list(0)));
        play.illegal(
            A,
            &out(OutServiceAction::Preempt, code, list(KEY_A)),
            0x24,
            0,
        );
    }
}

#[test]
fn a_basic_list_has_24_bytes() {
    let mut play = registered();
    for length in [0, 1, 23, 25, 32, 200] {
        for action in OutServiceAction::ALL.into_iter().take(7) {
            let mut list = basic(KEY_A, KEY_A).encode();
            list.resize(length, 0);
            play.illegal(A, &out(action, 1, list), 0x1a, 0);
        }
    }
}

#[test]
fn bytes_beyond_the_length_do_not_count_and_missing_ones_do() {
    let mut play = registered();
    let mut command = reserve(KEY_A, WRITE_EXCLUSIVE);
    command.parameters.truncate(23);
    play.illegal(A, &command, 0x1a, 0);
    command.parameters.resize(64, 0xff);
    command.parameters.splice(..24, basic(KEY_A, 0).encode());
    play.good(A, &command);
}

#[test]
fn lists_of_names_that_are_cut_off_are_bad_fields() {
    let mut play = Play::new();
    let mut list = basic(0, KEY_A).encode();
    list[20] = 0x08;
    play.illegal(
        A,
        &out(OutServiceAction::Register, 0, list.clone()),
        0x26,
        0,
    );
    list.extend([0, 0, 0, 24, 6]);
    play.illegal(A, &out(OutServiceAction::Register, 0, list), 0x26, 0);

    let mut play = Play::held(EXCLUSIVE);
    let mut command = moving(&to(B, KEY_A, KEY_B));
    command.parameters[23] = 25;
    play.illegal(A, &command, 0x26, 0);
    command.cdb[8] = 23;
    play.illegal(A, &command, 0x1a, 0);
}

#[test]
fn a_conflict_is_found_before_a_bad_list() {
    let mut play = Play::held(EXCLUSIVE);
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
        play.conflict(node, &out(action, 0xff, Vec::new()));
    }
    play.illegal(B, &out(OutServiceAction::Preempt, 1, Vec::new()), 0x1a, 0);
}

#[test]
fn a_key_is_checked_before_scope_and_type() {
    let mut play = registered();
    let mut command = preempt(KEY_B, KEY_A, EXCLUSIVE);
    command.cdb[2] = 0xff;
    play.conflict(A, &command);
}

#[test]
fn a_nexus_of_another_unit_has_no_unit_here() {
    let play = Play::new();
    let id = play.id(C);
    let mut small = LogicalUnit::new(vec![nexus(A)]).unwrap();
    let command = register(0, KEY_A);
    let answer = small.execute(id, &command.cdb, &command.parameters);
    assert_eq!(answer.status, Status::CHECK_CONDITION);
    let code = answer.sense.unwrap().code;
    assert_eq!((code.asc, code.ascq), (0x25, 0));
}
