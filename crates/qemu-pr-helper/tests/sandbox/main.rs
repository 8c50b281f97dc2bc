//! The sandbox of the real helper: it lets everything through that the helper does, and has no entry that nothing
//! needs; what a helper must not do fails.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::env;
use std::io::{self, Write as _};

mod refused;
mod status;
mod used;

/// Says that something was not tested, so that it is seen; and fails where nothing may be skipped.
fn skipped(why: &str) {
    assert!(env::var_os("PR_COMPAT_STRICT").is_none(), "skipped: {why}");
    // Not with eprintln, which the test harness keeps to itself.
    let _ = writeln!(io::stderr(), "sandbox: skipped: {why}");
}
