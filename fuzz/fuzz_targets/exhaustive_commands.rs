// SPDX-License-Identifier: MIT OR Apache-2.0

//! Well-formed commands to a soft LUN with four nexuses. Their state space is too large for an
//! exhaustive test; the tables of `soft-lun`'s exhaustive test check each command.

#![cfg_attr(fuzzing, no_main)]

use std::sync::OnceLock;

use soft_lun::LogicalUnit;

use exhaustive::commands::{TestCommand, all_commands};
use exhaustive::state::{self, StateView};
use exhaustive::transition;

/// The transition tables of `soft-lun`'s exhaustive test, from its own files.
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "these are parts of a test, and the state search is not used"
)]
#[path = "../../crates/soft-lun/tests/exhaustive"]
mod exhaustive {
    pub(crate) mod commands;
    pub(crate) mod state;
    pub(crate) mod transition;
}

fuzz::target!(run);

/// Maximum number of commands, each of two bytes; more reach no further states.
const MAX_COMMANDS: usize = 64;

fn clean() -> &'static (LogicalUnit, Vec<TestCommand>) {
    static CLEAN: OnceLock<(LogicalUnit, Vec<TestCommand>)> = OnceLock::new();
    CLEAN.get_or_init(|| {
        let unit = state::new_unit(4);
        let commands = all_commands(&unit, true);
        (unit, commands)
    })
}

/// Input: commands, by their indices in the list of all commands.
fn run(bytes: &[u8]) {
    let (unit, commands) = clean();
    let mut unit = unit.clone();
    let (indices, _) = bytes.as_chunks::<2>();
    for index in indices.iter().take(MAX_COMMANDS) {
        let command = &commands[usize::from(u16::from_be_bytes(*index)) % commands.len()];
        let before = StateView::of(&unit);
        let original = unit.clone();
        transition::check(&original, &before, command, &mut unit);
    }
    state::check(&unit, &StateView::of(&unit));
}
