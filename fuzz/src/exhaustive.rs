//! The transition tables of `soft-lun`'s exhaustive test, from its own files.

#![expect(dead_code, reason = "the state search of the test is not used")]

#[path = "../../crates/soft-lun/tests/exhaustive/commands.rs"]
pub(crate) mod commands;
#[path = "../../crates/soft-lun/tests/exhaustive/state.rs"]
pub(crate) mod state;
#[path = "../../crates/soft-lun/tests/exhaustive/transition.rs"]
pub(crate) mod transition;
