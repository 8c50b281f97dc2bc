// SPDX-License-Identifier: MIT OR Apache-2.0

//! Traces of the real helper. Independent readers parse them, and every event is accounted for.
//!
//! | module | content |
//! |---|---|
//! | `helper` | a helper process and its clients |
//! | `definitions` | a parser of the output of `--trace-events` |
//! | `binary_reader`, `text_reader` | readers of binary traces and of lines |
//! | `event_counts` | the expected number of events |
//! | `client_records` | the expected records of each client |
//! | all others | the tests |
//!
//! `probes` requires `--features usdt`. Some tests require root or a mount namespace and skip
//! without; `PR_COMPAT_STRICT` turns a skip into a failure.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod binary_format;
mod binary_reader;
mod client_records;
mod definitions;
mod errors;
mod event_counts;
mod file;
mod helper;
mod load;
mod log;
mod pipe;
#[cfg(all(
    feature = "usdt",
    target_pointer_width = "64",
    target_endian = "little"
))]
mod probes;
mod syslog;
mod text_reader;
