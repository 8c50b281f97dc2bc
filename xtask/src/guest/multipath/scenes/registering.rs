//! Scenes about registrations: who has which key, and who gives it to whom.

use super::{
    GUEST, NEW, NOBODY, OTHER, STRANGER, Step, guest, guest_with, other, other_registers,
    registers, reserves,
};
use crate::guest::multipath::commands::{
    EXCLUSIVE, Order, REGISTRANTS, SPEC_I_PT, address, clear, out, register, register_and_ignore,
    register_and_move, register_with, release, reserve,
};
use crate::guest::multipath::side::Side;

/// Each service action that there is, and some that there are not, from who is not registered.
pub(super) fn unregistered() -> Vec<Step> {
    let mut steps = vec![Step::State];
    // What REGISTER does is a scene of its own.
    for action in [1, 2, 3, 4, 5, 7, 8, 9, 0x1f] {
        let name = format!("action {action:#x}");
        steps.push(guest(name, out(action, REGISTRANTS, GUEST, OTHER)));
    }
    steps.push(other_registers());
    for action in [1, 2, 3, 4, 5, 7, 8, 9, 0x1f] {
        let name = format!("action {action:#x}, other registered");
        steps.push(guest(name, out(action, REGISTRANTS, GUEST, OTHER)));
    }
    steps
}

pub(super) fn keys() -> Vec<Step> {
    vec![
        guest(
            "REGISTER with a key, is not registered",
            register(NOBODY, GUEST),
        ),
        guest("REGISTER 0 to 0", register(0, 0)),
        registers(),
        Step::State,
        guest("REGISTER as if anew", register(0, NEW)),
        guest("REGISTER, wrong key", register(NOBODY, NEW)),
        guest("REGISTER, same key", register(GUEST, GUEST)),
        guest("REGISTER, new key", register(GUEST, NEW)),
        Step::State,
        guest("REGISTER AND IGNORE", register_and_ignore(GUEST)),
        guest("REGISTER AND IGNORE, same key", register_and_ignore(GUEST)),
        guest("unregister, wrong key", register(NOBODY, 0)),
        guest("unregister", register(GUEST, 0)),
        Step::State,
        guest("unregister again", register(GUEST, 0)),
        guest("REGISTER AND IGNORE 0", register_and_ignore(0)),
        guest("REGISTER AND IGNORE, first", register_and_ignore(GUEST)),
        guest("REGISTER AND IGNORE 0, last", register_and_ignore(0)),
    ]
}

/// Parameter lists of a wrong length.
pub(super) fn lists() -> Vec<Step> {
    let mut steps = Vec::new();
    for is_registered in [false, true] {
        let state = if is_registered { ", registered" } else { "" };
        for length in [0, 1, 23, 25, 8192] {
            for action in 0..=7 {
                let name = format!("action {action}, {length} bytes{state}");
                let order = out(action, REGISTRANTS, 0, GUEST).length(length);
                steps.push(guest(name, order));
            }
        }
        if !is_registered {
            steps.push(registers());
        }
    }
    steps
}

/// A flag of REGISTER, which the target keeps with the registration.
pub(super) fn flag(flag: u8) -> Vec<Step> {
    vec![
        guest("REGISTER with it", register(0, GUEST).flags(flag)),
        Step::State,
        guest("REGISTER, same key", register(GUEST, GUEST).flags(flag)),
        reserves(REGISTRANTS),
        Step::State,
        guest("REGISTER without it", register(GUEST, NEW)),
        guest(
            "REGISTER, new key with it",
            register(GUEST, NEW).flags(flag),
        ),
        Step::State,
        guest("unregister without it", register(NEW, 0)),
        guest("unregister with it", register(NEW, 0).flags(flag)),
        Step::State,
        guest(
            "REGISTER AND IGNORE with it",
            register_and_ignore(GUEST).flags(flag),
        ),
        guest("CLEAR", clear(GUEST)),
    ]
}

pub(super) fn spec_i_pt() -> Vec<Step> {
    vec![
        guest("without a list", register(0, GUEST).flags(SPEC_I_PT)),
        guest("a stranger", register_with(GUEST, STRANGER)),
        guest_with("REGISTER AND IGNORE", |side| {
            Order::new(6, 0, register_with(GUEST, address(side.other.0)).list)
        }),
        Step::State,
        guest_with("the other host", |side| {
            register_with(GUEST, address(side.other.0))
        }),
        Step::State,
        guest_with("again", |side| register_with(GUEST, address(side.other.0))),
        other("REGISTER, new key", register(GUEST, OTHER)),
        reserves(REGISTRANTS),
    ]
}

pub(super) fn to_other(side: &Side, new: u64, flags: u8) -> Order {
    let port = side.other.0;
    let target = u16::try_from(port).unwrap_or(u16::MAX);
    register_and_move(GUEST, new, flags, target, address(port))
}

pub(super) fn moves(flags: u8) -> Vec<Step> {
    let other_port = |side: &Side| u16::try_from(side.other.0).unwrap_or(u16::MAX);
    vec![
        guest_with("unregistered", move |side| to_other(side, OTHER, flags)),
        registers(),
        guest_with("nothing reserved", move |side| to_other(side, OTHER, flags)),
        reserves(EXCLUSIVE),
        guest_with("key zero", move |side| to_other(side, 0, flags)),
        guest_with("a stranger", move |side| {
            register_and_move(GUEST, OTHER, flags, other_port(side), STRANGER)
        }),
        guest_with("unknown target port", move |side| {
            register_and_move(GUEST, OTHER, flags, 99, address(side.other.0))
        }),
        guest_with("wrong key", move |side| {
            register_and_move(
                NOBODY,
                OTHER,
                flags,
                other_port(side),
                address(side.other.0),
            )
        }),
        Step::State,
        guest_with("the other host", move |side| to_other(side, OTHER, flags)),
        Step::State,
        guest("RELEASE", release(GUEST, EXCLUSIVE)),
        guest_with("again", move |side| to_other(side, OTHER, flags)),
        guest("RESERVE", reserve(GUEST, EXCLUSIVE)),
        other("RELEASE", release(OTHER, EXCLUSIVE)),
    ]
}
