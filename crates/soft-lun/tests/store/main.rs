//! Soft LUNs in files: what they hold, what they answer, what is wrong with them.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod commands;
mod faults;
mod files;
mod folder;
mod power;
mod processes;
mod support;
