//! What outlasts the end of a process, and what is done so that it outlasts a loss of power.
//!
//! * `crash`: a writer is killed while it registers, a thousand times.
//! * `durability`: the system calls of a few registrations, in their order.
//!
//! Run by hand, an argument chooses one of them, as with other tests.

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
        ("crash", kills::kill_and_look),
        ("durability", durability::look_at_system_calls),
    ];
    if arguments.contains(&"--list") {
        return tests.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    let filters: Vec<_> = arguments
        .iter()
        .filter(|one| !one.starts_with('-'))
        .collect();
    for (name, test) in tests {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(**filter)) {
            test();
        }
    }
}
