// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `multipath`: a map of two paths that multipathd manages, as on a host. Tests its
//! detection, commands to it through the helper and directly, faults, and `mpathpersist`.
//!
//! Scenario `sg` runs some of the cases on maps that only look like multipath maps.

mod cleanup;
mod commands;
mod compare;
mod daemons;
mod device;
mod endpoint;
mod expected_pr_in;
mod failure_steps;
mod fault_fixture;
mod fixture;
mod helper_client;
mod mpathpersist;
mod multipathd_faults;
mod operator;
mod outage;
mod path_faults;
mod processes;
mod registrations;
mod scenarios;
mod single_nexus;
mod suspended_map;
mod sysfs_detection;
mod table;
mod timing;
mod tracing;
mod unit_attentions;
mod unregistered_path;
mod validate;
mod worker_steps;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::compat::CompatSuite;
use super::helper::{Helper, helper_stderr};
use super::lio_target::{Port, Target};
use super::prhctl_command::Prhctl;
use super::{Modules, uptime};
pub(crate) use daemons::{Multipathd, UDEVD, Udevd, log as multipathd_log};
use endpoint::Endpoint;
use fault_fixture::FaultFixture;
pub(crate) use fixture::{MapFixture, name_of, wait_for_map, wait_for_map_of};
use pr_testkit::process::{command, timed};
use table::Table;

/// Programs of the host for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    suite: CompatSuite,
    /// The helper under test
    #[arg(long)]
    helper: PathBuf,
    #[arg(long)]
    prhctl: PathBuf,
    /// Seed of failures at random steps [default: only at defined steps]
    #[arg(long)]
    seed: Option<u64>,
}

/// Sets up the fixture and runs all tests.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let result = run_tests(options, modules);
    if result.is_err() {
        eprintln!("guest: the helper's stderr:\n{}", helper_stderr());
        eprintln!("guest: multipathd's log:\n{}", daemons::log());
        eprintln!("guest: the end of the helper's trace:\n{}", tracing::tail());
    }
    result
}

fn run_tests(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    // Two paths, and the port of another host.
    let [one, two, other_port] = target.create_unit::<3>()?;
    let ports = [one, two];
    let [other_unit] = target.create_unit::<1>()?;
    // A unit for the comparison, with one path and the port of another host.
    let comparison_ports = target.create_unit::<2>()?;
    let fixture = timed("udevd, multipathd and its map", || {
        MapFixture::create(
            modules,
            &ports,
            &[&other_port, &comparison_ports[0], &comparison_ports[1]],
        )
    })?;
    println!("guest: target and maps ready after {} s", uptime()?);
    sysfs_detection::check(&fixture)?;
    run_suite(&options.suite, &fixture, &ports, &other_unit)?;
    without_helper(&fixture)?;

    let helper = Helper::start_with(&options.helper, &helper_client::ARGUMENTS, &[])?;
    compare_endpoints(&fixture, &comparison_ports, &other_port)?;
    version_is_logged()?;
    helper.stop()?;
    let programs = operator::Programs {
        helper: &options.helper,
        prhctl: &options.prhctl,
    };
    timed("prhctl", || {
        operator::run(&fixture, &programs, &comparison_ports[0], &other_port)
    })
    .context("prhctl")?;
    tracing::run(&fixture, &options.helper).context("trace")?;
    timed("prhctl validate", || {
        let ports = target.create_unit::<2>()?;
        validate::run(&options.prhctl, &options.helper, &ports)
    })
    .context("prhctl validate")?;

    let name = wait_for_map_of(&[&name_of(&other_unit.block)?])?;
    let other_unit = Path::new("/dev/mapper").join(name);
    let fault_fixture = FaultFixture::new(&fixture, &options.helper, &other_port, &other_unit)?;
    run_faults(fault_fixture, &comparison_ports[0].block, options)?
        .helper
        .stop()
}

/// Runs the compatibility suite's cases with maps.
fn run_suite(
    suite: &CompatSuite,
    fixture: &MapFixture,
    ports: &[Port; 2],
    other_unit: &Port,
) -> Result<()> {
    let run = |names| suite.run(names, ports, other_unit, &fixture.maps);
    // A case waits for unit attentions, which the TEST UNIT READY of the checker would consume, and
    // so would udevd, which probes a device after each close. Also, multipathd can suspend a map
    // for a moment after a close.
    fixture.freeze_udev()?;
    fixture.multipathd.freeze()?;
    run("linear_map")?;
    run("partition_of_a_multipath_map")?;
    fixture.multipathd.thaw()?;
    fixture.thaw_udev()?;
    // This case needs a running multipathd.
    run("device::multipath_map")
}

/// Runs the fault cases and the timing through the helper.
fn run_faults<'a>(
    fault_fixture: FaultFixture<'a>,
    single: &Path,
    options: &Options,
) -> Result<FaultFixture<'a>> {
    let mut fault_fixture =
        timed("times", || timing::run(fault_fixture, single)).context("times")?;
    timed("paths", || path_faults::run(&mut fault_fixture))?;
    timed("unregistered path", || {
        unregistered_path::run(&mut fault_fixture, Prhctl(&options.prhctl))
    })
    .context("unregistered path")?;
    timed("single nexus", || single_nexus::run(&mut fault_fixture))?;
    timed("CLEANUP", || cleanup::run(&mut fault_fixture)).context("CLEANUP")?;
    timed("suspended maps", || suspended_map::run(&mut fault_fixture))?;
    let fault_fixture = timed("steps", || failure_steps::run(fault_fixture, options.seed))?;
    let fault_fixture = timed("processes", || processes::run(fault_fixture))?;
    timed("multipathd", || multipathd_faults::run(fault_fixture))
}

/// Tests the kernel's handling of commands to a map, and `mpathpersist`.
fn without_helper(fixture: &MapFixture) -> Result<()> {
    let mut table = Table::default();
    let result = timed("registrations", || registrations::run(fixture, &mut table))
        .context("registrations on the map's paths")
        .and_then(|()| {
            timed("outage", || outage::run(fixture, &mut table)).context("path failures")
        });
    // Print the table also after an error.
    println!("guest: SG_IO to the map and to a path, without the helper:");
    table.print();
    result?;
    timed("mpathpersist", || mpathpersist::run(fixture)).context("mpathpersist")?;
    table.check()
}

/// Checks that the helper has warned once about multipathd before 0.13.1, and never about a later
/// one.
fn version_is_logged() -> Result<()> {
    let help = command("multipathd").arg("help").output();
    let help = String::from_utf8(help.context("cannot start multipathd")?.stdout)?;
    let version = help.split_once("multipath-tools v").map(|(_, rest)| rest);
    let version = version.and_then(|rest| rest.split(' ').next());
    let version = version.with_context(|| format!("multipathd help printed {help:?}"))?;
    let numbers: Result<Vec<u8>, _> = version.split('.').map(str::parse).collect();
    let expected = usize::from(numbers? < vec![0, 13, 1]);
    let log = helper_stderr();
    let warnings = log.lines().filter(|line| {
        line.contains(&format!("multipathd {version} ")) && line.contains("fenced host")
    });
    let count = warnings.count();
    ensure!(
        count == expected,
        "{count} instead of {expected} warnings about multipathd {version}: {log}"
    );
    Ok(())
}

/// Compares commands through the helper on the map and on a single path.
fn compare_endpoints(fixture: &MapFixture, ports: &[Port; 2], other_port: &Port) -> Result<()> {
    let [path, other] = ports;
    let mut single = Endpoint::new(&path.block, &[(path.number, path.block.as_path())], other)?;
    let paths = fixture.paths.each_ref();
    let paths = paths.map(|path| (path.port, path.device.path.as_path()));
    let mut map = Endpoint::new(&fixture.map.path, &paths, other_port)?;
    let mut table = Table::default();
    let result = timed("comparison", || {
        compare::run(&mut single, &mut map, &mut table)
    })
    .context("comparison of commands")
    .and_then(|()| {
        timed("unit attentions", || {
            unit_attentions::run(&fixture.multipathd, &mut single, &mut map, &mut table)
        })
        .context("comparison of unit attentions")
    });
    println!("guest: commands through the helper, to a single path and to the map:");
    table.print();
    result?;
    single.clean()?;
    map.clean()?;
    table.check()
}
