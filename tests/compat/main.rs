//! The compatibility suite: one set of cases, each of which is true of the C helper and of ours.
//!
//! It reads the wire with a client of its own and shares no code with the daemon but `SG_IO` itself, so
//! a mistake in the project's idea of the protocol cannot hide here. Where the two helpers differ on purpose, the
//! case names the row of `docs/compatibility.md` and asserts both behaviours.
//!
//! Environment: `PR_HELPER` replaces our binary, `PR_HELPER_ORIGINAL` the C one. `PR_COMPAT_STRICT`
//! makes it a failure that something is skipped, except in the areas that it names. The cases of the
//! area `device` want root and devices; `device/lun.rs` names their variables.

mod activation;
mod case;
mod client;
mod command_line;
mod daemon;
mod device;
mod differences;
mod helper;
mod pidfile;
mod privileges;
mod process;
mod protocol;
mod scratch;
mod socket;
mod trace;

use libtest_mimic::{Arguments, Trial};

use crate::case::{Area, trials};
use crate::helper::Helper;

/// Every area, in the order of the list that `--list` prints.
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
    let mut all = vec![Trial::test("differences::table_is_complete", move || {
        differences::check(&rows).map_err(Into::into)
    })];
    all.extend(trials(&areas, &Helper::find_all()));
    libtest_mimic::run(&arguments, all).exit();
}
