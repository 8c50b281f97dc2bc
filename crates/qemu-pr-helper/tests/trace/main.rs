//! Traces of the real helper: what it writes is read by code of the tests' own, and every event is accounted for.
//!
//! | module | job |
//! |---|---|
//! | `helper` | a helper as a process, and its clients |
//! | `definitions` | reads what `--trace-events` prints |
//! | `reader` | reads binary traces |
//! | `text` | reads lines |
//! | `account` | how many events there must be |
//! | `namespace` | a private view of the file system |
//! | all others | the tests |
//!
//! `probes` is there with `--features usdt`. Some want a mount namespace or root, and say so where they cannot have
//! it; `PR_COMPAT_STRICT` makes that a failure.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod account;
mod contents;
mod daemon;
mod definitions;
mod disk;
mod golden;
mod helper;
mod load;
mod log;
mod namespace;
mod pipe;
#[cfg(all(
    feature = "usdt",
    target_pointer_width = "64",
    target_endian = "little"
))]
mod probes;
mod reader;
mod refused;
mod stderr;
mod syslog;
mod text;
