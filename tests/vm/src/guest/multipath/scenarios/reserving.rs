// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenarios about reservations.

use super::registering::to_other;
use super::{
    GUEST, NEW, OTHER, Step, UNUSED, guest, guest_with, other, other_registers, registers, reserves,
};
use crate::guest::multipath::commands::{
    ALL, EXCLUSIVE, REGISTRANTS, clear, out, preempt, register, release, reserve,
};

/// Tries every value of the type field.
pub(super) fn types() -> Vec<Step> {
    let mut steps = vec![registers(), other_registers()];
    for kind in 0..16 {
        steps.push(reserves(kind));
        if matches!(kind, 1 | 3 | 5..=8) {
            steps.push(Step::State);
        }
        steps.push(guest(format!("RELEASE {kind}"), release(GUEST, kind)));
    }
    steps
}

pub(super) fn scopes() -> Vec<Step> {
    let mut steps = vec![registers()];
    for scope in [1, 2, 15] {
        let kind = scope << 4 | REGISTRANTS;
        steps.push(guest(
            format!("RESERVE, scope {scope}"),
            reserve(GUEST, kind),
        ));
        steps.push(guest(
            format!("RELEASE, scope {scope}"),
            release(GUEST, kind),
        ));
    }
    steps.push(reserves(REGISTRANTS));
    for scope in [1, 2, 15] {
        let kind = scope << 4 | REGISTRANTS;
        steps.push(guest(
            format!("RESERVE again, scope {scope}"),
            reserve(GUEST, kind),
        ));
        steps.push(guest(
            format!("PREEMPT, scope {scope}"),
            preempt(GUEST, UNUSED, kind),
        ));
    }
    steps
}

/// The guest holds a reservation and sends valid and invalid commands.
pub(super) fn holds(kind: u8) -> Vec<Step> {
    let another = if kind == EXCLUSIVE { 3 } else { EXCLUSIVE };
    vec![
        guest("RELEASE, unregistered", release(GUEST, kind)),
        registers(),
        guest("RELEASE, nothing reserved", release(GUEST, kind)),
        guest(
            "RELEASE, wrong key, nothing reserved",
            release(UNUSED, kind),
        ),
        guest("RESERVE, wrong key", reserve(UNUSED, kind)),
        reserves(kind),
        Step::State,
        guest("RESERVE again", reserve(GUEST, kind)),
        guest("RESERVE, other type", reserve(GUEST, another)),
        guest("RESERVE again, wrong key", reserve(UNUSED, kind)),
        other_registers(),
        other("RESERVE", reserve(OTHER, kind)),
        guest("RELEASE, other type", release(GUEST, another)),
        guest("RELEASE, wrong key", release(UNUSED, kind)),
        guest("RELEASE, key of the other host", release(OTHER, kind)),
        Step::State,
        guest("REGISTER, new key", register(GUEST, NEW)),
        guest("RELEASE, key of before", release(GUEST, kind)),
        Step::State,
        guest("RELEASE", release(NEW, kind)),
        Step::State,
        guest("RELEASE again", release(NEW, kind)),
    ]
}

/// The guest unregisters while it holds a reservation.
pub(super) fn leaves(kind: u8) -> Vec<Step> {
    vec![
        registers(),
        other_registers(),
        reserves(kind),
        guest("unregister", register(GUEST, 0)),
        Step::State,
        other("RESERVE", reserve(OTHER, kind)),
        guest("REGISTER again", register(0, GUEST)),
        guest("RESERVE", reserve(GUEST, kind)),
        guest("RELEASE", release(GUEST, kind)),
    ]
}

/// The guest preempts its own key, and the key 0 for all registrants.
pub(super) fn preempts_itself(kind: u8) -> Vec<Step> {
    vec![
        registers(),
        other_registers(),
        guest("own key, nothing reserved", preempt(GUEST, GUEST, kind)),
        Step::State,
        registers(),
        reserves(kind),
        guest("own key", preempt(GUEST, GUEST, kind)),
        Step::State,
        guest(
            "own key, other type",
            preempt(GUEST, GUEST, REGISTRANTS + 1),
        ),
        Step::State,
        guest("key zero", preempt(GUEST, 0, kind)),
        Step::State,
        guest("unknown key", preempt(GUEST, UNUSED, kind)),
        guest("wrong key", preempt(UNUSED, OTHER, kind)),
    ]
}

/// The other host holds a reservation.
pub(super) fn other_holds() -> Vec<Step> {
    vec![
        other_registers(),
        other("RESERVE", reserve(OTHER, EXCLUSIVE)),
        Step::State,
        guest("RESERVE, unregistered", reserve(GUEST, EXCLUSIVE)),
        guest("CLEAR, unregistered", clear(GUEST)),
        registers(),
        guest("RESERVE, same type", reserve(GUEST, EXCLUSIVE)),
        guest("RESERVE, key of the other host", reserve(OTHER, EXCLUSIVE)),
        guest("RELEASE", release(GUEST, EXCLUSIVE)),
        guest("RELEASE, key of the other host", release(OTHER, EXCLUSIVE)),
        guest("action 8", out(8, EXCLUSIVE, GUEST, OTHER)),
        guest("action 9", out(9, EXCLUSIVE, GUEST, OTHER)),
        guest_with("REGISTER AND MOVE", |endpoint| to_other(endpoint, OTHER, 0)),
        guest("REGISTER, new key", register(GUEST, NEW)),
        Step::State,
        guest("PREEMPT", preempt(NEW, OTHER, REGISTRANTS)),
        Step::State,
        guest("RELEASE what was preempted", release(NEW, REGISTRANTS)),
    ]
}

pub(super) fn clears() -> Vec<Step> {
    vec![
        registers(),
        guest("wrong key", clear(UNUSED)),
        guest("right key", clear(GUEST)),
        Step::State,
        guest("again", clear(GUEST)),
        registers(),
        other_registers(),
        reserves(REGISTRANTS),
        guest("key of the other host", clear(OTHER)),
        guest("reserved", clear(GUEST)),
        Step::State,
        registers(),
        other_registers(),
        other("CLEAR", clear(OTHER)),
        guest("after the other host", clear(GUEST)),
    ]
}

/// The guest preempts the other host, and the other host the guest.
pub(super) fn victims() -> Vec<Step> {
    vec![
        registers(),
        guest("unknown key", preempt(GUEST, UNUSED, REGISTRANTS)),
        other_registers(),
        guest("key zero", preempt(GUEST, 0, REGISTRANTS)),
        guest("invalid type", preempt(GUEST, OTHER, 2)),
        guest("wrong key", preempt(UNUSED, OTHER, REGISTRANTS)),
        guest("nothing reserved", preempt(GUEST, OTHER, REGISTRANTS)),
        Step::State,
        other_registers(),
        reserves(REGISTRANTS),
        guest("guest holds", preempt(GUEST, OTHER, REGISTRANTS)),
        Step::State,
        guest("same again", preempt(GUEST, OTHER, REGISTRANTS)),
        other_registers(),
        guest("RELEASE", release(GUEST, REGISTRANTS)),
        other("RESERVE for all", reserve(OTHER, ALL)),
        guest("all registrants, key zero", preempt(GUEST, 0, EXCLUSIVE)),
        Step::State,
        other_registers(),
        other("PREEMPT", preempt(OTHER, GUEST, EXCLUSIVE)),
        Step::State,
        guest("RELEASE, was preempted", release(GUEST, EXCLUSIVE)),
        guest("RESERVE, was preempted", reserve(GUEST, EXCLUSIVE)),
        guest("REGISTER, was preempted", register(GUEST, NEW)),
        registers(),
    ]
}

/// PREEMPT AND ABORT that fails; the target never completes a valid one.
pub(super) fn aborts() -> Vec<Step> {
    let abort = |key, victim, kind| out(5, kind, key, victim);
    let mut steps = vec![
        guest("unregistered", abort(GUEST, OTHER, REGISTRANTS)),
        registers(),
        other_registers(),
        guest("wrong key", abort(UNUSED, OTHER, REGISTRANTS)),
        guest("key of the other host", abort(OTHER, GUEST, REGISTRANTS)),
        guest("key zero", abort(GUEST, 0, REGISTRANTS)),
        guest("unknown key", abort(GUEST, UNUSED, REGISTRANTS)),
        guest("23 bytes", abort(GUEST, OTHER, REGISTRANTS).length(23)),
    ];
    match target_ignores_type() {
        true => println!("guest: PREEMPT AND ABORT, invalid type: skipped, valid since Linux 7.1"),
        false => steps.push(guest("invalid type", abort(GUEST, OTHER, 2))),
    }
    steps
}

/// Returns whether the target ignores the type of PREEMPT AND ABORT while nothing is reserved, as
/// since Linux 7.1.
fn target_ignores_type() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    let version: (u32, u32) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    version >= (7, 1)
}
