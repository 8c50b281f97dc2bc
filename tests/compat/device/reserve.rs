// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reservations of every type: reserve, conflict, release, preempt, clear, and the resulting unit
//! attentions.

use super::step::{
    A, B, KEY_A, KEY_B, Step, clear, preempt, preempt_and_abort, read_keys, read_reservation,
    ready, register, release, reserve, run_steps,
};
use super::wire::{EXCLUSIVE, TYPES, Type, WRITE_EXCLUSIVE, keys, reservation};
use crate::case::Case;

const UNKNOWN_KEY: u64 = 0x0bad_0bad_0bad_0bad;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in TYPES {
        cases.extend([
            reserved(kind),
            reserved_again(kind),
            reserved_by_another(kind),
            reserved_with_a_wrong_key(kind),
            released(kind),
            released_by_another(kind),
            release_with_wrong_key_or_type(kind),
            cleared(kind),
            preempted(kind),
            preempt_non_holder(kind),
            preempt_own_key(kind),
            preempt_unknown_key(kind),
        ]);
    }
    cases
}

/// Returns another type.
fn other(kind: Type) -> Type {
    if kind == EXCLUSIVE {
        WRITE_EXCLUSIVE
    } else {
        EXCLUSIVE
    }
}

/// Returns steps after which both ports are registered and the first one holds a reservation.
/// PRgeneration is 2.
fn reserved_by_first(kind: Type) -> Vec<Step> {
    vec![
        register(A, 0, KEY_A),
        register(B, 0, KEY_B),
        reserve(A, KEY_A, kind),
    ]
}

fn case(name: &str, kind: Type, rest: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Case {
    Case::new(format!("{name}_{}", kind.name), move |helper| {
        let mut steps = reserved_by_first(kind);
        steps.extend(rest());
        run_steps(helper, &steps)
    })
}

fn holds(key: u64, kind: Type) -> Option<(u64, Type)> {
    Some((key, kind))
}

fn reserved(kind: Type) -> Case {
    case("reserve", kind, move || {
        vec![
            read_reservation(A).data(reservation(2, holds(KEY_A, kind))),
            read_reservation(B).data(reservation(2, holds(KEY_A, kind))),
            read_keys(B).data(keys(2, &[KEY_A, KEY_B])),
            ready(B),
        ]
    })
}

fn reserved_again(kind: Type) -> Case {
    case("reserve_again", kind, move || {
        vec![
            reserve(A, KEY_A, kind),
            reserve(A, KEY_A, other(kind)).conflict(),
            read_reservation(B).data(reservation(2, holds(KEY_A, kind))),
        ]
    })
}

fn reserved_by_another(kind: Type) -> Case {
    case("reserve_by_another", kind, move || {
        vec![
            reserve(B, KEY_B, kind).allowed(kind.all_hold),
            reserve(B, KEY_B, other(kind)).conflict(),
            read_reservation(B).data(reservation(2, holds(KEY_A, kind))),
        ]
    })
}

fn reserved_with_a_wrong_key(kind: Type) -> Case {
    let name = format!("reserve_with_a_wrong_key_{}", kind.name);
    Case::new(name, move |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                reserve(A, KEY_B, kind).conflict(),
                reserve(A, 0, kind).conflict(),
                // SPC-4 requires RESERVATION CONFLICT for a port that is not registered.
                reserve(B, KEY_A, kind).sense(2, 8, 0),
                reserve(B, 0, kind).sense(2, 8, 0),
                read_reservation(A).data(reservation(1, None)),
            ],
        )
    })
}

/// The other port gets a unit attention only for types that give access to registrants.
fn released(kind: Type) -> Case {
    case("release", kind, move || {
        let mut steps = vec![release(A, KEY_A, kind)];
        if kind.registrants_allowed {
            steps.push(ready(B).sense(6, 0x2a, 4));
        }
        steps.extend([
            ready(B),
            ready(A),
            read_reservation(B).data(reservation(2, None)),
            read_keys(B).data(keys(2, &[KEY_A, KEY_B])),
            release(A, KEY_A, kind),
        ]);
        steps
    })
}

fn released_by_another(kind: Type) -> Case {
    case("release_by_another", kind, move || {
        let mut steps = vec![release(B, KEY_B, kind)];
        if kind.all_hold {
            steps.push(read_reservation(A).sense(6, 0x2a, 4));
        }
        let remaining = (!kind.all_hold).then_some((KEY_A, kind));
        steps.push(read_reservation(A).data(reservation(2, remaining)));
        steps
    })
}

fn release_with_wrong_key_or_type(kind: Type) -> Case {
    case("release_with_a_wrong_key_or_type", kind, move || {
        vec![
            release(A, KEY_B, kind).conflict(),
            release(A, 0, kind).conflict(),
            // SPC-4 requires ILLEGAL REQUEST, INVALID RELEASE OF PERSISTENT RESERVATION.
            release(A, KEY_A, other(kind)).conflict(),
            read_reservation(A).data(reservation(2, holds(KEY_A, kind))),
        ]
    })
}

fn cleared(kind: Type) -> Case {
    case("clear_by_another", kind, || {
        vec![
            clear(B, KEY_A).conflict(),
            clear(B, KEY_B),
            read_keys(A).sense(6, 0x2a, 3),
            read_keys(A).data(keys(3, &[])),
            read_reservation(B).data(reservation(3, None)),
            ready(A),
            ready(B),
        ]
    })
}

fn preempted(kind: Type) -> Case {
    case("preempt_the_holder_of", kind, move || {
        vec![
            preempt(B, KEY_B, KEY_A, kind),
            read_keys(A).sense(6, 0x2a, 5),
            read_keys(A).data(keys(3, &[KEY_B])),
            read_reservation(A).data(reservation(3, holds(KEY_B, kind))),
            ready(A),
            ready(B),
            reserve(A, KEY_A, kind).conflict(),
            release(B, KEY_B, kind),
        ]
    })
}

fn preempt_non_holder(kind: Type) -> Case {
    case("preempt_another_by_the_holder_of", kind, move || {
        vec![
            preempt(A, KEY_A, KEY_B, kind),
            read_keys(B).sense(6, 0x2a, 5),
            read_keys(B).data(keys(3, &[KEY_A])),
            read_reservation(A).data(reservation(3, holds(KEY_A, kind))),
            ready(B),
        ]
    })
}

/// QEMU sends this on the destination of a migration.
fn preempt_own_key(kind: Type) -> Case {
    case("preempt_of_the_own_key_by_the_holder_of", kind, move || {
        vec![
            preempt(A, KEY_A, KEY_A, kind),
            read_keys(A).data(keys(3, &[KEY_A, KEY_B])),
            read_reservation(A).data(reservation(3, holds(KEY_A, kind))),
        ]
    })
}

/// PREEMPT AND ABORT of a registered victim is not tested. Over the loopback fabric, Linux 6.12
/// never completes it: the worker that executes the command waits for all submitted work, including
/// its own (`core_tmr_lun_reset` in `target_queued_submit_work`).
fn preempt_unknown_key(kind: Type) -> Case {
    case("preempt_of_an_unknown_key", kind, move || {
        vec![
            preempt(B, KEY_B, UNKNOWN_KEY, kind).conflict(),
            preempt(B, KEY_A, KEY_A, kind).conflict(),
            preempt_and_abort(B, KEY_B, UNKNOWN_KEY, kind).conflict(),
            read_keys(A).data(keys(2, &[KEY_A, KEY_B])),
            read_reservation(A).data(reservation(2, holds(KEY_A, kind))),
        ]
    })
}
