//! Soft LUNs in files: what they hold, what they answer, what is wrong with them.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod commands;
mod faults;
mod files;
mod folder;
mod power;
mod processes;
mod support;
