//! Scenario `multipath`: a map that multipathd has made over two paths, as a host has it. What it
//! is known by, what becomes of commands to it, and what `mpathpersist` does with it.
//!
//! Scenario `sg` has maps that look like these; here the same cases run on real ones.

mod attentions;
mod beside;
mod commands;
mod daemons;
mod device;
mod explain;
mod keeper;
mod lab;
mod losses;
mod outage;
mod persist;
mod processes;
mod recognition;
mod registrations;
mod scenes;
mod side;
mod stage;
mod stuck;
mod table;
mod through;
mod timing;
mod tracing;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::helper::{Helper, complaints};
use super::lio::{Port, Target};
use super::suite::Suite;
use super::{Modules, uptime};
use crate::process::timed;
pub(crate) use daemons::UDEVD;
use lab::Lab;
use side::Side;
pub(crate) use stage::Stage;
use table::Table;

/// What the host has built for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    suite: Suite,
    /// The helper under test
    #[arg(long)]
    helper: PathBuf,
}

/// Sets everything up and looks at it from all sides.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let result = on_a_map(options, modules);
    if result.is_err() {
        eprintln!("guest: the helper's stderr:\n{}", complaints());
        eprintln!("guest: multipathd's log:\n{}", daemons::log());
        eprintln!("guest: the end of the helper's trace:\n{}", tracing::end());
    }
    result
}

fn on_a_map(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    // Two paths, and another host's.
    let [one, two, stranger] = target.unit::<3>()?;
    let ports = [one, two];
    let [elsewhere] = target.unit::<1>()?;
    // A unit for the comparison, with one path and another host's.
    let beside = target.unit::<2>()?;
    let stage = timed("udevd, multipathd and its map", || {
        Stage::set(modules, &ports, &[&stranger, &beside[0], &beside[1]])
    })?;
    println!("guest: target and maps ready after {} s", uptime()?);
    recognition::check(&stage)?;
    suite(&options.suite, &stage, &ports, &elsewhere)?;
    past_the_helper(&stage)?;

    let helper = Helper::start_with(&options.helper, &through::ARGUMENTS, &[])?;
    compare(&stage, &beside, &stranger)?;
    helper.stop()?;
    tracing::run(&stage, &options.helper).context("trace")?;

    let name = stage::map_over(&[&stage::name_of(&elsewhere.block)?])?;
    let elsewhere = Path::new("/dev/mapper").join(name);
    let lab = Lab::new(&stage, &options.helper, &stranger, &elsewhere)?;
    faults(lab, &beside[0].block)?.helper.stop()
}

/// The suite's cases about maps.
fn suite(suite: &Suite, stage: &Stage, ports: &[Port; 2], elsewhere: &Port) -> Result<()> {
    let run = |names| suite.run(names, ports, elsewhere, &stage.maps);
    // The first waits for unit attentions, and each TEST UNIT READY of the checker takes one. And where
    // somebody has closed a map, multipathd may suspend it for a moment.
    stage.multipathd.freeze()?;
    run("linear_map")?;
    run("partition_of_a_multipath_map")?;
    stage.multipathd.thaw()?;
    // Here it has to be told.
    run("device::multipath_map")
}

/// Fault cases through the helper, and times.
fn faults<'a>(mut lab: Lab<'a>, single: &Path) -> Result<Lab<'a>> {
    timed("times", || timing::run(&mut lab, single)).context("times")?;
    timed("paths", || losses::run(&mut lab))?;
    timed("stuck maps", || stuck::run(&mut lab))?;
    let lab = timed("processes", || processes::run(lab))?;
    timed("multipathd", || keeper::run(lab))
}

/// What the kernel makes of commands to a map, and `mpathpersist`.
fn past_the_helper(stage: &Stage) -> Result<()> {
    let mut table = Table::default();
    let result = timed("registrations", || registrations::run(stage, &mut table))
        .context("registrations on the map's paths")
        .and_then(|()| {
            timed("outage", || outage::run(stage, &mut table)).context("paths that go away")
        });
    // Also of what came before an error.
    println!("guest: SG_IO to the map and to a path, without the helper:");
    table.print();
    result?;
    timed("mpathpersist", || persist::run(stage)).context("mpathpersist")?;
    table.judge()
}

/// The same commands through the helper, on the map and on a single path.
fn compare(stage: &Stage, beside: &[Port; 2], stranger: &Port) -> Result<()> {
    let [path, other] = beside;
    let mut single = Side::new(&path.block, &[(path.number, path.block.as_path())], other)?;
    let paths = stage.routes.each_ref();
    let paths = paths.map(|route| (route.port, route.device.path.as_path()));
    let mut map = Side::new(&stage.map.path, &paths, stranger)?;
    let mut table = Table::default();
    let result = timed("side by side", || {
        beside::run(&mut single, &mut map, &mut table)
    })
    .context("commands on both sides")
    .and_then(|()| {
        timed("unit attentions", || {
            attentions::run(&stage.multipathd, &mut single, &mut map, &mut table)
        })
        .context("unit attentions on both sides")
    });
    println!("guest: commands through the helper, to a single path and to the map:");
    table.print();
    result?;
    single.clean()?;
    map.clean()?;
    table.judge()
}
