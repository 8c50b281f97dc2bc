// SPDX-License-Identifier: MIT OR Apache-2.0

//! Readable examples, one for each rule: the responses that two nodes and a third, usually
//! unregistered node get from one unit. `tests/exhaustive` covers the rules for all states.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod errors;
mod preempt;
mod read;
mod register;
mod register_and_move;
mod reserve;
mod snapshot;
mod supported_features;
mod test_unit;
