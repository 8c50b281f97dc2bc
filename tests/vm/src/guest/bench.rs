// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `bench`: compares our helper and QEMU's on a disk of a LIO target and on a multipath
//! map.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::lio_target::Target;
use super::multipath::MapFixture;
use super::{Modules, uptime};
use bench::Disks;
use pr_testkit::process::timed;

/// Programs of the host for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    /// Release build of the benchmark, which generates the load
    #[arg(long)]
    bench: PathBuf,
    /// Release build of the helper under test
    #[arg(long)]
    pub(super) helper: PathBuf,
    /// QEMU's helper
    #[arg(long)]
    pub(super) original: PathBuf,
}

/// Sets up the target and runs the benchmark.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let ports = target.create_unit::<2>()?;
    let [single] = target.create_unit::<1>()?;
    let fixture = timed("udevd, multipathd and its map", || {
        MapFixture::create(modules, &ports, &[&single])
    })?;
    println!("guest: target and map ready after {} s", uptime()?);
    timed("benchmark", || {
        bench::with_disks(
            &options.bench,
            &options.helper,
            &options.original,
            &Disks {
                one_path: &single.block,
                map: fixture.disk(),
            },
        )
    })
}
