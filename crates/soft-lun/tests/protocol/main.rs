//! What two nodes and a bystander see of one unit, rule by rule.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod errors;
mod play;
mod preempt;
mod register;
mod register_and_move;
mod report;
mod reserve;
mod snapshot;
mod supported;
