//! The real helper under fault: limits that are reached, clients that vanish or dawdle, a kernel that refuses. Whoever
//! has nothing to do with it is served, and afterwards nothing is left of it.
//!
//! | module | job |
//! |---|---|
//! | `helper` | a helper as a process |
//! | `client` | its clients, who need not do what they should |
//! | `stuck` | devices that hang |
//! | `fuse` | a file system whose server does not answer |
//! | `usage` | what the kernel says that a process takes |
//! | `others` | clients in another process |
//! | all others | the tests |
//!
//! This program is those other processes too, which its arguments say; so it has a `main` of its own. `refusals` wants
//! `strace`, and says so where it cannot have it; `PR_COMPAT_STRICT` makes that a failure.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod attack;
mod burst;
mod client;
mod clients;
mod closes;
mod crowd;
mod dawdlers;
mod descriptors;
mod device_limits;
mod fuse;
mod helper;
mod others;
mod peers;
mod refusals;
mod soak;
mod stuck;
mod threads;
mod usage;
mod vanish;

use std::env;
use std::panic;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name, and what it does.
type Test = (&'static str, fn());

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let [others::OPTION, rest @ ..] = arguments.as_slice() {
        return others::run(rest);
    }
    let areas: [(&str, &[Test]); 13] = [
        ("attack", attack::TESTS),
        ("burst", burst::TESTS),
        ("clients", clients::TESTS),
        ("closes", closes::TESTS),
        ("crowd", crowd::TESTS),
        ("dawdlers", dawdlers::TESTS),
        ("descriptors", descriptors::TESTS),
        ("device_limits", device_limits::TESTS),
        ("peers", peers::TESTS),
        ("refusals", refusals::TESTS),
        ("soak", soak::TESTS),
        ("threads", threads::TESTS),
        ("vanish", vanish::TESTS),
    ];
    let trials = areas.into_iter().flat_map(|(area, tests)| {
        let trial = move |(name, test): &Test| Trial::test(format!("{area}::{name}"), run(*test));
        tests.iter().map(trial)
    });
    let mut arguments = Arguments::from_args();
    // However few processors there are: mostly the tests wait, each for helpers of its own.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// A test of which it is heard where it has failed: the panic's own message goes to standard error.
fn run(test: fn()) -> impl FnOnce() -> Result<(), Failed> {
    move || panic::catch_unwind(test).map_err(|_| "see standard error".into())
}
