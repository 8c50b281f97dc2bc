// SPDX-License-Identifier: MIT OR Apache-2.0

//! The prhctl binary with the real helper and soft LUNs, and with a fake helper for everything that
//! soft LUNs do not do.

#![expect(clippy::unwrap_used, reason = "a test fails if a precondition does")]

mod advice;
mod change;
mod color;
mod completion;
mod decode;
mod demo;
mod demo_helper;
mod demo_screen;
mod docs;
mod errors;
mod exporter;
mod fake;
mod faulty_disk;
mod help;
mod json;
mod list;
mod lun;
mod orphans;
mod prometheus;
mod query;
mod running_helpers;
mod state;
mod state_host;
mod support;
mod system_journal;
mod top;
mod validate;
mod validate_faults;
mod validate_others;
mod wrap;
