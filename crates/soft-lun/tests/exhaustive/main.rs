//! Every state that two and three nexuses with two keys can reach, and every command in each of them.
//!
//! PRgeneration is left out of what makes a state: nothing depends on it, so the states are finite. The
//! commands are those of `alphabet.rs`. What must be true is in `state.rs` and `transition.rs`, each
//! with the rule of the standard that it comes from.
//!
//! * Two nexuses: with unit attentions as a part of the state, and all commands.
//! * Three nexuses: unit attentions are checked and delivered after each command, and PREEMPT AND ABORT
//!   is not sent, since nothing here differs from PREEMPT.
//!
//! `ALL_TG_PT` is not in here: each nexus has an initiator port of its own.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod alphabet;
mod state;
mod transition;

use std::collections::HashSet;

use soft_lun::LogicalUnit;

use alphabet::{Letter, alphabet};
use state::View;

/// How far a search came.
#[derive(Debug)]
struct Visited {
    states: usize,
    /// States, of which those that differ in unit attentions alone count as one.
    states_but_for_attentions: usize,
    transitions: usize,
}

/// Visits whatever can be reached from a clean unit.
fn explore(clean: LogicalUnit, letters: &[Letter], keep_attentions: bool) -> Visited {
    let mut seen = HashSet::from([View::of(&clean)]);
    let mut left = vec![clean];
    let mut transitions = 0;
    while let Some(unit) = left.pop() {
        let before = View::of(&unit);
        state::check(&unit, &before);
        for letter in letters {
            if !letter.is_sent_in(&unit) {
                continue;
            }
            transitions += 1;
            let mut after = unit.clone();
            transition::check(&unit, &before, letter, &mut after);
            if !keep_attentions {
                state::deliver_all(&mut after);
            }
            if after != unit && seen.insert(View::of(&after)) {
                left.push(after);
            }
        }
    }
    let states = seen.len();
    let quiet: HashSet<View> = seen.into_iter().map(View::without_attentions).collect();
    Visited {
        states,
        states_but_for_attentions: quiet.len(),
        transitions,
    }
}

/// How many states there can be with `nexuses` and two keys, but for unit attentions: registrations in
/// any order; with some, no reservation, four types with one of them as the holder, or two types that all
/// hold; and `APTPL` or not.
fn conceivable(nexuses: usize) -> usize {
    let mut lists = 1;
    let mut states = 1;
    for registered in 1..=nexuses {
        lists *= (nexuses - registered + 1) * 2;
        states += lists * (1 + 4 * registered + 2);
    }
    states * 2
}

#[test]
fn two_nexuses() {
    let unit = state::clean(2);
    let letters = alphabet(&unit, true);
    let visited = explore(unit, &letters, true);
    println!("two nexuses: {visited:?}");
    assert_eq!(visited.states_but_for_attentions, conceivable(2));
    assert!(visited.states > 5_000, "{visited:?}");
    assert!(visited.transitions > 1_000_000, "{visited:?}");
}

#[test]
fn three_nexuses() {
    let unit = state::clean(3);
    let letters = alphabet(&unit, false);
    let visited = explore(unit, &letters, false);
    println!("three nexuses: {visited:?}");
    assert_eq!(visited.states, conceivable(3));
    assert!(visited.transitions > 1_000_000, "{visited:?}");
}
