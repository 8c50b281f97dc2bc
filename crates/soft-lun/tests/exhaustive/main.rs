// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every state that two and three nexuses with two keys can reach, and every command in each state.
//!
//! PRgeneration is not a part of the state, because no command depends on it. The number of states
//! is therefore finite. `commands.rs` contains the commands. `state.rs` and `transition.rs` contain
//! the checks, each with the rule of the standard that it implements.
//!
//! * Two nexuses: unit attentions are a part of the state, and all commands are sent.
//! * Three nexuses: unit attentions are checked and reported after each command. PREEMPT AND ABORT
//!   is not sent, because it is the same as PREEMPT here.
//!
//! `ALL_TG_PT` is not tested, because each nexus has its own initiator port.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod commands;
mod state;
mod transition;

use std::collections::HashSet;

use soft_lun::LogicalUnit;

use commands::{TestCommand, all_commands};
use state::StateView;

/// The extent of a search.
#[derive(Debug)]
struct Visited {
    states: usize,
    /// The number of states that differ in more than unit attentions.
    states_ignoring_unit_attentions: usize,
    transitions: usize,
}

/// Visits all states that can be reached from a new unit.
fn explore(new_unit: LogicalUnit, commands: &[TestCommand], keep_unit_attentions: bool) -> Visited {
    let mut seen = HashSet::from([StateView::of(&new_unit)]);
    let mut pending = vec![new_unit];
    let mut transitions = 0;
    while let Some(unit) = pending.pop() {
        let before = StateView::of(&unit);
        state::check(&unit, &before);
        for command in commands {
            if !command.is_sent_to(&unit) {
                continue;
            }
            transitions += 1;
            let mut after = unit.clone();
            transition::check(&unit, &before, command, &mut after);
            if !keep_unit_attentions {
                state::report_all_unit_attentions(&mut after);
            }
            if after != unit && seen.insert(StateView::of(&after)) {
                pending.push(after);
            }
        }
    }
    let states = seen.len();
    let distinct: HashSet<StateView> = seen
        .into_iter()
        .map(StateView::without_unit_attentions)
        .collect();
    Visited {
        states,
        states_ignoring_unit_attentions: distinct.len(),
        transitions,
    }
}

/// Returns the number of possible states with `nexuses` and two keys, ignoring unit attentions.
///
/// The registrations are in any order. With registrations, there is no reservation, or one of four
/// types held by a registrant, or one of two all registrants types. `APTPL` is set or not.
fn state_count(nexuses: usize) -> usize {
    let mut lists = 1;
    let mut states = 1;
    for registered in 1..=nexuses {
        lists *= (nexuses - registered + 1) * 2;
        states += lists * (1 + 4 * registered + 2);
    }
    states * 2
}

#[test]
fn two_nexuses_every_command_conforms() {
    let unit = state::new_unit(2);
    let commands = all_commands(&unit, true);
    let visited = explore(unit, &commands, true);
    println!("two nexuses: {visited:?}");
    assert_eq!(visited.states_ignoring_unit_attentions, state_count(2));
    assert!(visited.states > 5_000, "{visited:?}");
    assert!(visited.transitions > 1_000_000, "{visited:?}");
}

#[test]
fn three_nexuses_every_command_conforms() {
    let unit = state::new_unit(3);
    let commands = all_commands(&unit, false);
    let visited = explore(unit, &commands, false);
    println!("three nexuses: {visited:?}");
    assert_eq!(visited.states, state_count(3));
    assert!(visited.transitions > 1_000_000, "{visited:?}");
}
