// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compatibility suite: cases that hold for the C helper and for our helper.
//!
//! The suite has a protocol client of its own and shares only `SG_IO` with the daemon, so a wrong
//! interpretation of the protocol in the project is detected. If the helpers differ intentionally,
//! the case names the row of `docs/compatibility.md` and asserts both behaviors. The same document
//! has rows for differences between releases of the C helper.
//!
//! The C helpers are the installed one and that of Debian's newest release, if `cargo xtask vm` has
//! built its root directory.
//!
//! Environment: `PR_HELPER` replaces our binary and `PR_HELPER_ORIGINAL`, a list of paths that are
//! separated by colons, the C helpers. With `PR_COMPAT_STRICT`, skipped cases fail, except in the
//! areas that it lists. The area `device` needs root and devices; `device/lun.rs` lists their
//! variables.

mod activation;
mod case;
mod client;
mod command_line;
mod daemon;
mod device;
mod differences;
mod helper;
mod need;
mod pidfile;
mod privileges;
mod process;
mod protocol;
mod release;
mod scratch;
mod socket;
mod trace;

use libtest_mimic::{Arguments, Trial};

use crate::case::{Area, trials};
use crate::helper::Helper;

/// Returns all areas, in the order of `--list`.
fn areas() -> Vec<Area> {
    vec![
        Area::new("command_line", command_line::cases()),
        Area::new("socket", socket::cases()),
        Area::new("pidfile", pidfile::cases()),
        Area::new("daemon", daemon::cases()),
        Area::new("activation", activation::cases()),
        Area::new("privileges", privileges::cases()),
        Area::new("trace", trace::cases()),
        Area::new("protocol", protocol::cases()),
        Area::new("device", device::cases()),
    ]
}

fn main() {
    let arguments = Arguments::from_args();
    let areas = areas();
    let rows = areas.iter().flat_map(Area::rows).collect::<Vec<_>>();
    let changes = areas.iter().flat_map(Area::changes).collect::<Vec<_>>();
    let mut list = vec![Trial::test("differences::table_is_complete", move || {
        differences::check(&rows, &changes);
        Ok(())
    })];
    let (cases, skipped) = trials(&areas, &Helper::find_all());
    let lists_ignored = lists_ignored(&arguments);
    list.extend(
        cases
            .into_iter()
            .filter(|case| lists_ignored || !case.has_ignored_flag()),
    );
    let conclusion = libtest_mimic::run(&arguments, list);
    if !arguments.list {
        for (reason, count) in skipped {
            eprintln!("compat: skipped {count} {reason}");
        }
    }
    conclusion.exit();
}

/// Returns whether the run names each case that it ignores. A run of everything counts them: there
/// are hundreds.
fn lists_ignored(arguments: &Arguments) -> bool {
    let is_asked_for = arguments.ignored || arguments.include_ignored;
    arguments.list || is_asked_for || arguments.filter.is_some()
}
