// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the man pages, completions, units and packages, with the tools that read them, if these
//! are installed.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod completions;
mod man;
mod options;
mod packages;
mod rpm_install;
mod units;

use std::process::Command;

use pr_testkit::process;

/// Returns a command for a tool. Without the tool, skips the test.
fn tool(name: &str) -> Option<Command> {
    let path = process::find(name);
    if path.is_none() {
        pr_testkit::skip(&format!("{name} is not installed"));
    }
    path.map(Command::new)
}
