//! The sandbox of the real helper: it allows everything that the helper does, its list of system
//! calls has no unused entry, and everything else fails.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::env;
use std::io::{self, Write as _};

mod forbidden;
mod status;
mod used;

/// Prints that a test was skipped. Fails if `PR_COMPAT_STRICT` forbids that.
fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    // Not with eprintln, because the test harness captures its output.
    let _ = writeln!(io::stderr(), "sandbox: skipped: {reason}");
}
