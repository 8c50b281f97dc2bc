// SPDX-License-Identifier: MIT OR Apache-2.0

//! Persistence of the state when a process is killed, and the system calls that make it survive a
//! power loss.
//!
//! * `crash` kills a writer while it registers, a thousand times.
//! * `durability` checks the order of the system calls of some registrations.
//!
//! An argument selects one of the tests, as with other test programs.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod durability;
mod kills;
mod writer;

use std::env;
use std::path::Path;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let ["--writer", path] = *arguments {
        return writer::write_until_killed(Path::new(path));
    }
    if let ["--steps", path] = *arguments {
        return writer::write_steps(Path::new(path));
    }
    let tests: [(&str, fn()); 2] = [
        ("crash", kills::registrations_survive_kills),
        ("durability", durability::system_calls_are_in_order),
    ];
    if arguments.contains(&"--list") {
        return tests.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    let filters: Vec<_> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for (name, test) in tests {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(**filter)) {
            test();
        }
    }
}
