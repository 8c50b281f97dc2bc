//! Scenario `multipath`: a map that multipathd has made over two paths, as a host has it. What it
//! is known by, what becomes of commands to it, and what `mpathpersist` does with it.
//!
//! Scenario `sg` has maps that look like these; here the same cases run on real ones.

mod daemons;
mod device;
mod outage;
mod persist;
mod recognition;
mod registrations;
mod stage;
mod table;

use anyhow::{Context as _, Result};

use super::lio::Target;
use super::suite::Suite;
use super::{Modules, uptime};
use crate::process::timed;
pub(crate) use daemons::UDEVD;
use stage::Stage;
use table::Table;

/// Sets everything up and looks at it from all sides.
pub(crate) fn run(suite: &Suite, modules: &Modules) -> Result<()> {
    let result = on_a_map(suite, modules);
    if result.is_err() {
        eprintln!("guest: multipathd's log:\n{}", daemons::log());
    }
    result
}

fn on_a_map(suite: &Suite, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let ports = target.unit::<2>()?;
    let [other] = target.unit::<1>()?;
    let stage = timed("udevd, multipathd and its map", || {
        Stage::set(modules, &ports)
    })?;
    println!("guest: target and maps ready after {} s", uptime()?);
    recognition::check(&stage)?;
    // These wait for unit attentions, and each TEST UNIT READY of the checker takes one.
    stage.multipathd.freeze()?;
    suite.run("linear_map", &ports, &other, &stage.maps)?;
    stage.multipathd.thaw()?;
    suite.run("multipath_map", &ports, &other, &stage.maps)?;

    let mut table = Table::default();
    let result = timed("registrations", || registrations::run(&stage, &mut table))
        .context("registrations on the map's paths")
        .and_then(|()| {
            timed("outage", || outage::run(&stage, &mut table)).context("paths that go away")
        });
    // Also of what came before an error.
    table.print();
    result?;
    timed("mpathpersist", || persist::run(&stage)).context("mpathpersist")?;
    table.judge()
}
