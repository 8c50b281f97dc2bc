// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations: creation, change, removal, and effects on a reservation.
//!
//! LIO does not count the removal of a registration in `PRgeneration`.

use super::step::{
    A, B, KEY_A, KEY_B, action, clear, read_full_status, read_keys, read_reservation, ready,
    register, register_and_ignore, reserve, reserve_in, run_steps,
};
use super::wire::{
    ALL_TG_PT, APTPL, Registration, TYPES, Type, WRITE_EXCLUSIVE, basic, full_status, keys,
    reservation,
};
use crate::case::Case;

const OTHER_KEY: u64 = 0x0123_4567_89ab_cdef;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        register_and_change_key(),
        wrong_keys(),
        key_zero(),
        ignore_existing_key(),
        register_same_key_from_both_ports(),
        largest_key(),
        generation(),
        unregister(),
        register_after_clear(),
        persistence(),
        all_target_ports(),
    ];
    cases.extend(TYPES.map(holder_unregisters));
    cases.extend(TYPES.map(holder_changes_its_key));
    cases.extend(TYPES.map(other_unregisters));
    cases
}

fn register_and_change_key() -> Case {
    Case::new("register_makes_and_changes_a_key", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                read_keys(A).data(keys(1, &[KEY_A])),
                read_keys(B).data(keys(1, &[KEY_A])),
                register(A, KEY_A, OTHER_KEY),
                read_keys(A).data(keys(2, &[OTHER_KEY])),
            ],
        )
    })
}

fn wrong_keys() -> Case {
    Case::new("register_with_a_wrong_key_conflicts", |helper| {
        run_steps(
            helper,
            &[
                register(A, OTHER_KEY, KEY_A).conflict(),
                read_keys(A).data(keys(0, &[])),
                register(A, 0, KEY_A),
                register(A, OTHER_KEY, KEY_B).conflict(),
                register(A, 0, KEY_B).conflict(),
                register(A, OTHER_KEY, 0).conflict(),
                register(B, KEY_A, KEY_B).conflict(),
                read_keys(A).data(keys(1, &[KEY_A])),
            ],
        )
    })
}

fn key_zero() -> Case {
    Case::new("register_of_key_zero_changes_nothing", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, 0),
                register_and_ignore(A, 0, 0),
                register_and_ignore(A, OTHER_KEY, 0),
                read_keys(A).data(keys(0, &[])),
            ],
        )
    })
}

fn ignore_existing_key() -> Case {
    Case::new("register_and_ignore_takes_any_old_key", |helper| {
        run_steps(
            helper,
            &[
                register_and_ignore(A, OTHER_KEY, KEY_A),
                read_keys(A).data(keys(1, &[KEY_A])),
                register_and_ignore(A, KEY_B, OTHER_KEY),
                read_keys(A).data(keys(2, &[OTHER_KEY])),
                register_and_ignore(A, KEY_B, 0),
                read_keys(A).data(keys(2, &[])),
            ],
        )
    })
}

fn register_same_key_from_both_ports() -> Case {
    Case::new("two_ports_can_have_the_same_key", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                register(B, 0, KEY_A),
                read_keys(A).data(keys(2, &[KEY_A, KEY_A])),
            ],
        )
    })
}

fn largest_key() -> Case {
    Case::new("key_of_all_ones_is_valid", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, u64::MAX),
                reserve(A, u64::MAX, WRITE_EXCLUSIVE),
                read_keys(B).data(keys(1, &[u64::MAX])),
                read_reservation(B).data(reservation(1, Some((u64::MAX, WRITE_EXCLUSIVE)))),
            ],
        )
    })
}

fn generation() -> Case {
    Case::new("generation_counts_registrations_alone", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                reserve(A, KEY_A, WRITE_EXCLUSIVE),
                read_keys(A).data(keys(1, &[KEY_A])),
                super::step::release(A, KEY_A, WRITE_EXCLUSIVE),
                read_keys(A).data(keys(1, &[KEY_A])),
                register(A, KEY_A, KEY_A),
                read_keys(A).data(keys(2, &[KEY_A])),
                register(A, OTHER_KEY, KEY_A).conflict(),
                read_keys(A).data(keys(2, &[KEY_A])),
                clear(A, KEY_A),
                read_keys(A).data(keys(3, &[])),
            ],
        )
    })
}

fn unregister() -> Case {
    Case::new("unregister_removes_one_port", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                register(B, 0, KEY_B),
                register(A, KEY_A, 0),
                read_keys(A).data(keys(2, &[KEY_B])),
                register(A, KEY_A, 0).conflict(),
                register(B, KEY_B, 0),
                read_keys(A).data(keys(2, &[])),
                ready(A),
                ready(B),
            ],
        )
    })
}

fn register_after_clear() -> Case {
    Case::new("register_after_clear_creates_registration", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                clear(A, KEY_A),
                register(A, KEY_A, KEY_B).conflict(),
                register(A, 0, KEY_B),
                read_keys(A).data(keys(3, &[KEY_B])),
            ],
        )
    })
}

/// `PTPL_A` is a bit of byte 3 of the capabilities.
fn persistence() -> Case {
    let capabilities = |bit: u8| vec![0, 8, 0x1d, 0x90 | bit, 0xea, 0x01, 0, 0];
    Case::new(
        "register_through_power_loss_shows_in_capabilities",
        move |helper| {
            run_steps(
                helper,
                &[
                    action(A, 0, 0, basic(0, KEY_A, APTPL)),
                    reserve_in(A, 2, 255).data(capabilities(1)),
                    action(A, 6, 0, basic(0, KEY_B, 0)),
                    reserve_in(A, 2, 255).data(capabilities(0)),
                    read_keys(A).data(keys(2, &[KEY_B])),
                ],
            )
        },
    )
}

fn all_target_ports() -> Case {
    Case::new(
        "register_on_all_target_ports_shows_in_full_status",
        |helper| {
            let one = Registration {
                key: KEY_A,
                all_ports: true,
                held: None,
                port: A,
            };
            run_steps(
                helper,
                &[
                    action(A, 0, 0, basic(0, KEY_A, ALL_TG_PT)),
                    read_full_status(B).data(full_status(1, &[one])),
                    register(A, KEY_A, KEY_B).sense(5, 0x24, 0),
                    action(A, 0, 0, basic(KEY_A, KEY_B, ALL_TG_PT)),
                    read_keys(A).data(keys(2, &[KEY_B])),
                ],
            )
        },
    )
}

/// The reservation is released when its holder unregisters; for "all registrants" types, when the
/// last registrant does.
fn holder_unregisters(kind: Type) -> Case {
    let name = format!("unregister_by_the_holder_of_{}", kind.name);
    Case::new(name, move |helper| {
        let mut steps = vec![
            register(A, 0, KEY_A),
            register(B, 0, KEY_B),
            reserve(A, KEY_A, kind),
            register(A, KEY_A, 0),
        ];
        if kind.registrants_allowed && !kind.all_hold {
            steps.push(ready(B).sense(6, 0x2a, 4));
        }
        let left = kind.all_hold.then_some((KEY_A, kind));
        steps.extend([
            ready(B),
            read_reservation(B).data(reservation(2, left)),
            register(B, KEY_B, 0),
            read_reservation(B).data(reservation(2, None)),
        ]);
        run_steps(helper, &steps)
    })
}

fn holder_changes_its_key(kind: Type) -> Case {
    let name = format!("new_key_of_the_holder_keeps_{}", kind.name);
    Case::new(name, move |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                reserve(A, KEY_A, kind),
                register(A, KEY_A, OTHER_KEY),
                read_reservation(B).data(reservation(2, Some((OTHER_KEY, kind)))),
                register_and_ignore(A, 0, KEY_A),
                read_reservation(B).data(reservation(3, Some((KEY_A, kind)))),
            ],
        )
    })
}

fn other_unregisters(kind: Type) -> Case {
    let name = format!("unregister_by_another_keeps_{}", kind.name);
    Case::new(name, move |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                register(B, 0, KEY_B),
                reserve(A, KEY_A, kind),
                register(B, KEY_B, 0),
                read_reservation(A).data(reservation(2, Some((KEY_A, kind)))),
                ready(A),
            ],
        )
    })
}
