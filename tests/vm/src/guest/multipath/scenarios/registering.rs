// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenarios about registrations.

use super::{
    GUEST, NEW, OTHER, Step, UNKNOWN_PORT, UNUSED, guest, guest_with, other, other_registers,
    registers, reserves,
};
use crate::guest::multipath::commands::{
    EXCLUSIVE, PrOutCommand, REGISTRANTS, SPEC_I_PT, clear, out, register, register_and_ignore,
    register_and_move, register_with, release, reserve, sas_address,
};
use crate::guest::multipath::endpoint::Endpoint;

/// Sends all service actions, and some reserved ones, from a guest that is not registered.
pub(super) fn unregistered() -> Vec<Step> {
    let mut steps = vec![Step::State];
    // REGISTER has a scenario of its own.
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
            "REGISTER with a key, not registered",
            register(UNUSED, GUEST),
        ),
        guest("REGISTER 0 to 0", register(0, 0)),
        registers(),
        Step::State,
        guest("REGISTER with key 0, registered", register(0, NEW)),
        guest("REGISTER, wrong key", register(UNUSED, NEW)),
        guest("REGISTER, same key", register(GUEST, GUEST)),
        guest("REGISTER, new key", register(GUEST, NEW)),
        Step::State,
        guest("REGISTER AND IGNORE", register_and_ignore(GUEST)),
        guest("REGISTER AND IGNORE, same key", register_and_ignore(GUEST)),
        guest("unregister, wrong key", register(UNUSED, 0)),
        guest("unregister", register(GUEST, 0)),
        Step::State,
        guest("unregister again", register(GUEST, 0)),
        guest("REGISTER AND IGNORE 0", register_and_ignore(0)),
        guest("REGISTER AND IGNORE, first", register_and_ignore(GUEST)),
        guest("REGISTER AND IGNORE 0, last", register_and_ignore(0)),
    ]
}

/// Sends parameter lists of a wrong length.
pub(super) fn lists() -> Vec<Step> {
    let mut steps = Vec::new();
    for is_registered in [false, true] {
        let state = if is_registered { ", registered" } else { "" };
        for length in [0, 1, 23, 25, 8192] {
            for action in 0..=7 {
                let name = format!("action {action}, {length} bytes{state}");
                let pr_out = out(action, REGISTRANTS, 0, GUEST).length(length);
                steps.push(guest(name, pr_out));
            }
        }
        if !is_registered {
            steps.push(registers());
        }
    }
    steps
}

/// Sends REGISTER with a flag, which the target stores with the registration.
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
        guest("unknown port", register_with(GUEST, UNKNOWN_PORT)),
        guest_with("REGISTER AND IGNORE", |endpoint| {
            PrOutCommand::new(
                6,
                0,
                register_with(GUEST, sas_address(endpoint.other.0)).parameter_list,
            )
        }),
        Step::State,
        guest_with("the other host", |endpoint| {
            register_with(GUEST, sas_address(endpoint.other.0))
        }),
        Step::State,
        guest_with("again", |endpoint| {
            register_with(GUEST, sas_address(endpoint.other.0))
        }),
        other("REGISTER, new key", register(GUEST, OTHER)),
        reserves(REGISTRANTS),
    ]
}

pub(super) fn to_other(endpoint: &Endpoint, new: u64, flags: u8) -> PrOutCommand {
    let port = endpoint.other.0;
    let target = u16::try_from(port).unwrap_or(u16::MAX);
    register_and_move(GUEST, new, flags, target, sas_address(port))
}

pub(super) fn moves(flags: u8) -> Vec<Step> {
    let other_port = |endpoint: &Endpoint| u16::try_from(endpoint.other.0).unwrap_or(u16::MAX);
    vec![
        guest_with("unregistered", move |endpoint| {
            to_other(endpoint, OTHER, flags)
        }),
        registers(),
        guest_with("nothing reserved", move |endpoint| {
            to_other(endpoint, OTHER, flags)
        }),
        reserves(EXCLUSIVE),
        guest_with("key zero", move |endpoint| to_other(endpoint, 0, flags)),
        guest_with("unknown port", move |endpoint| {
            register_and_move(GUEST, OTHER, flags, other_port(endpoint), UNKNOWN_PORT)
        }),
        guest_with("unknown target port", move |endpoint| {
            register_and_move(GUEST, OTHER, flags, 99, sas_address(endpoint.other.0))
        }),
        guest_with("wrong key", move |endpoint| {
            register_and_move(
                UNUSED,
                OTHER,
                flags,
                other_port(endpoint),
                sas_address(endpoint.other.0),
            )
        }),
        Step::State,
        guest_with("the other host", move |endpoint| {
            to_other(endpoint, OTHER, flags)
        }),
        Step::State,
        guest("RELEASE", release(GUEST, EXCLUSIVE)),
        guest_with("again", move |endpoint| to_other(endpoint, OTHER, flags)),
        guest("RESERVE", reserve(GUEST, EXCLUSIVE)),
        other("RELEASE", release(OTHER, EXCLUSIVE)),
    ]
}
