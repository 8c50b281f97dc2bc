// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations for other initiator ports by their `TransportIDs`.

use super::step::{
    A, B, KEY_A, KEY_B, Step, action, read_full_status, read_keys, read_reservation, register,
    release, reserve, run_steps, write,
};
use super::wire::{
    INITIATORS, Registration, SPEC_I_PT, TARGETS, Type, WRITE_EXCLUSIVE, WRITE_REGISTRANTS, basic,
    full_status, keys, moving, reservation, sas, with_transport_ids,
};
use crate::case::Case;

const UNKNOWN_PORT: u64 = 0x5001_4050_dead_beef;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        registers_the_other(),
        registers_the_sender_too(),
        full_status_of_both(),
    ];
    cases.extend(bad_lists());
    cases.extend(moves());
    cases
}

fn specified(ids: &[Vec<u8>]) -> Step {
    action(A, 0, 0, with_transport_ids(0, KEY_A, ids))
}

fn registers_the_other() -> Case {
    Case::new("register_of_a_named_port", |helper| {
        run_steps(
            helper,
            &[
                specified(&[sas(INITIATORS[1])]),
                read_keys(B).data(keys(2, &[KEY_A, KEY_A])),
                register(B, KEY_A, KEY_B),
                read_keys(B).data(keys(3, &[KEY_A, KEY_B])),
            ],
        )
    })
}

fn registers_the_sender_too() -> Case {
    Case::new(
        "register_with_an_empty_list_registers_the_sender",
        |helper| {
            run_steps(
                helper,
                &[specified(&[]), read_keys(B).data(keys(1, &[KEY_A]))],
            )
        },
    )
}

fn registration(port: usize, key: u64, held: Option<Type>) -> Registration {
    Registration {
        key,
        all_ports: false,
        held,
        port,
    }
}

fn full_status_of_both() -> Case {
    Case::new("full_status_names_the_ports", |helper| {
        run_steps(
            helper,
            &[
                register(B, 0, KEY_B),
                register(A, 0, KEY_A),
                reserve(B, KEY_B, WRITE_REGISTRANTS),
                read_full_status(A).data(full_status(
                    2,
                    &[
                        registration(B, KEY_B, Some(WRITE_REGISTRANTS)),
                        registration(A, KEY_A, None),
                    ],
                )),
            ],
        )
    })
}

/// Lists that are rejected and register no port.
fn bad_lists() -> Vec<Case> {
    let mut short = with_transport_ids(0, KEY_A, &[sas(INITIATORS[1])]);
    short.truncate(40);
    let mut length_too_large = with_transport_ids(0, KEY_A, &[sas(INITIATORS[1])]);
    length_too_large[27] = 0xff;
    let mut other_protocol = sas(INITIATORS[1]);
    other_protocol[0] = 0x00;
    let many = vec![sas(UNKNOWN_PORT); 33];
    let maximum = vec![sas(UNKNOWN_PORT); 340];
    let lists = [
        (
            "unknown_port",
            with_transport_ids(0, KEY_A, &[sas(UNKNOWN_PORT)]),
        ),
        ("33_unknown_ports", with_transport_ids(0, KEY_A, &many)),
        ("340_unknown_ports", with_transport_ids(0, KEY_A, &maximum)),
        (
            "other_protocol",
            with_transport_ids(0, KEY_A, &[other_protocol]),
        ),
        ("truncated", short),
        ("length_too_large", length_too_large),
        ("no_length", basic(0, KEY_A, SPEC_I_PT)),
    ];
    let mut cases: Vec<Case> = lists
        .into_iter()
        .map(|(name, list)| {
            Case::new(format!("register_list_{name}_is_rejected"), move |helper| {
                run_steps(
                    helper,
                    &[
                        action(A, 0, 0, list.clone()).sense(5, 0x26, 0),
                        read_keys(A).data(keys(0, &[])),
                    ],
                )
            })
        })
        .collect();
    cases.push(Case::new("register_and_ignore_takes_no_list", |helper| {
        let list = with_transport_ids(0, KEY_A, &[sas(INITIATORS[1])]);
        run_steps(helper, &[action(A, 6, 0, list).sense(5, 0x26, 0)])
    }));
    cases.push(Case::new(
        "register_list_by_a_registered_port_is_rejected",
        |helper| {
            let list = with_transport_ids(KEY_A, KEY_A, &[sas(INITIATORS[1])]);
            run_steps(
                helper,
                &[
                    register(A, 0, KEY_A),
                    action(A, 0, 0, list).sense(5, 0x26, 0),
                    read_keys(A).data(keys(1, &[KEY_A])),
                ],
            )
        },
    ));
    cases
}

/// Returns steps after which the first port holds a reservation.
fn holding() -> Vec<Step> {
    vec![register(A, 0, KEY_A), reserve(A, KEY_A, WRITE_EXCLUSIVE)]
}

fn moved(list: Vec<u8>) -> Step {
    action(A, 7, 0, list)
}

/// Returns REGISTER AND MOVE from the first port to the second, with the sender's key and the new
/// key.
fn to_b(key: u64, new: u64, flags: u8) -> Step {
    moved(moving(key, new, flags, TARGETS[B], &sas(INITIATORS[B])))
}

fn moves() -> Vec<Case> {
    let mut cases = rejected_moves();
    // Bit 1 is UNREG: the sender is unregistered by the move.
    for (name, flags, remaining_keys) in [
        ("keeps_the_sender_registered", 0, vec![KEY_A, KEY_B]),
        ("unregisters_the_sender", 2, vec![KEY_B]),
    ] {
        cases.push(Case::new(format!("move_{name}"), move |helper| {
            let mut steps = holding();
            steps.extend([
                write(A),
                write(B).conflict(),
                to_b(KEY_A, KEY_B, flags),
                read_reservation(B).data(reservation(2, Some((KEY_B, WRITE_EXCLUSIVE)))),
                read_keys(B).data(keys(2, &remaining_keys)),
                write(A).conflict(),
                write(B),
                release(B, KEY_B, WRITE_EXCLUSIVE),
                read_reservation(B).data(reservation(2, None)),
            ]);
            run_steps(helper, &steps)
        }));
    }
    cases
}

fn rejected_moves() -> Vec<Case> {
    let to = |new, target, initiator| moving(KEY_A, new, 0, target, &sas(initiator));
    let lists = [
        ("with_key_zero", to(0, TARGETS[B], INITIATORS[B])),
        ("to_an_unknown_port", to(KEY_B, TARGETS[B], UNKNOWN_PORT)),
        ("to_itself", to(KEY_B, TARGETS[A], INITIATORS[A])),
        ("to_an_unknown_target_port", to(KEY_B, 99, INITIATORS[B])),
        ("without_a_list", moving(KEY_A, KEY_B, 0, TARGETS[B], &[])),
    ];
    let expect_failure = lists.into_iter().map(|(name, list)| {
        Case::new(format!("move_{name}_is_rejected"), move |helper| {
            let mut steps = holding();
            steps.extend([
                moved(list.clone()).sense(5, 0x26, 0),
                read_reservation(B).data(reservation(1, Some((KEY_A, WRITE_EXCLUSIVE)))),
                read_keys(B).data(keys(1, &[KEY_A])),
            ]);
            run_steps(helper, &steps)
        })
    });
    let conflicts = [
        Case::new("move_with_a_wrong_key_conflicts", |helper| {
            let mut steps = holding();
            steps.push(to_b(KEY_B, KEY_B, 0).conflict());
            run_steps(helper, &steps)
        }),
        Case::new("move_by_a_non_holder_conflicts", |helper| {
            let steps = [
                register(A, 0, KEY_A),
                register(B, 0, KEY_B),
                reserve(B, KEY_B, WRITE_EXCLUSIVE),
                to_b(KEY_A, KEY_B, 0).conflict(),
            ];
            run_steps(helper, &steps)
        }),
    ];
    expect_failure.chain(conflicts).collect()
}
