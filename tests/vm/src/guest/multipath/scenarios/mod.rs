// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenarios for both endpoints: sequences of commands of the guest and of the other host.

mod registering;
mod reserving;

use super::commands::{
    ALL, ALL_TG_PT, APTPL, EXCLUSIVE, PrOutCommand, REGISTRANTS, UNREG, register,
    register_and_ignore, reserve,
};
use super::endpoint::Endpoint;
use registering::{flag, keys, lists, moves, spec_i_pt, unregistered};
use reserving::{
    aborts, clears, holds, leaves, other_holds, preempts_itself, scopes, types, victims,
};

/// Keys of the guest, of the other host, a new key, and an unused one.
pub(super) const GUEST: u64 = 0xa1;
pub(super) const OTHER: u64 = 0xb2;
const NEW: u64 = 0xc3;
pub(super) const UNUSED: u64 = 0xd4;

/// A SAS address that no port of the target has.
const UNKNOWN_PORT: u64 = 0x5001_4050_dead_beef;

/// Creates a command, which can depend on the port numbers of the endpoint.
type MakePrOut = Box<dyn Fn(&Endpoint) -> PrOutCommand>;

/// A step of a scenario.
pub(super) enum Step {
    /// The guest sends a command through the helper.
    Guest(String, MakePrOut),
    /// The other host sends a command without the helper.
    Other(String, PrOutCommand),
    /// The guest reads the complete state.
    State,
}

/// Steps that start with a unit without registrations and end with [`Step::State`].
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

fn guest(name: impl Into<String>, pr_out: PrOutCommand) -> Step {
    guest_with(name, move |_| pr_out.clone())
}

fn guest_with(name: impl Into<String>, make: impl Fn(&Endpoint) -> PrOutCommand + 'static) -> Step {
    Step::Guest(name.into(), Box::new(make))
}

fn other(name: impl Into<String>, pr_out: PrOutCommand) -> Step {
    Step::Other(name.into(), pr_out)
}

fn registers() -> Step {
    guest("REGISTER", register(0, GUEST))
}

fn other_registers() -> Step {
    other("REGISTER", register_and_ignore(OTHER))
}

fn reserves(kind: u8) -> Step {
    guest(format!("RESERVE {kind}"), reserve(GUEST, kind))
}

/// Returns all scenarios.
pub(super) fn all() -> Vec<Scenario> {
    let scenario = |name: &str, steps| Scenario {
        name: name.to_owned(),
        steps,
    };
    let mut scenarios = vec![
        scenario("unregistered", unregistered()),
        scenario("keys", keys()),
        scenario("types", types()),
        scenario("scopes", scopes()),
        scenario("lists", lists()),
        scenario("APTPL", flag(APTPL)),
        scenario("ALL_TG_PT", flag(ALL_TG_PT)),
        scenario("SPEC_I_PT", spec_i_pt()),
        scenario("other holds", other_holds()),
        scenario("clear", clears()),
        scenario("victims", victims()),
        scenario("abort", aborts()),
        scenario("move", moves(0)),
        scenario("move and leave", moves(UNREG)),
    ];
    for kind in [EXCLUSIVE, REGISTRANTS, ALL] {
        scenarios.push(scenario(&format!("holds {kind}"), holds(kind)));
        scenarios.push(scenario(&format!("leaves {kind}"), leaves(kind)));
        scenarios.push(scenario(
            &format!("preempts itself {kind}"),
            preempts_itself(kind),
        ));
    }
    for scenario in &mut scenarios {
        scenario.steps.push(Step::State);
    }
    scenarios
}
