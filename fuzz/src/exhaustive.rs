//! The tables by which `soft-lun`'s exhaustive test judges a command: its own files.

#![expect(dead_code, reason = "the search through all states is not in here")]

#[path = "../../crates/soft-lun/tests/exhaustive/commands.rs"]
pub(crate) mod commands;
#[path = "../../crates/soft-lun/tests/exhaustive/state.rs"]
pub(crate) mod state;
#[path = "../../crates/soft-lun/tests/exhaustive/transition.rs"]
pub(crate) mod transition;
