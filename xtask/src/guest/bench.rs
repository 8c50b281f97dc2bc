//! Scenario `bench`: ours and QEMU's helper, with a disk of the kernel's own SCSI target and with a map that
//! multipathd has made.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::lio::Target;
use super::multipath::Stage;
use super::{Modules, uptime};
use crate::bench::{self, Disks};
use crate::process::timed;

/// What the host has built for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    /// This program as it is released, which puts the load on
    #[arg(long)]
    parts: PathBuf,
    /// The helper under test, as it is released
    #[arg(long)]
    helper: PathBuf,
    /// QEMU's own helper
    #[arg(long)]
    original: PathBuf,
}

/// Sets the target up and measures.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let ports = target.unit::<2>()?;
    let [single] = target.unit::<1>()?;
    let stage = timed("udevd, multipathd and its map", || {
        Stage::set(modules, &ports, &[&single])
    })?;
    println!("guest: target and map ready after {} s", uptime()?);
    timed("benchmark", || {
        bench::with_disks(
            &options.parts,
            &options.helper,
            &options.original,
            &Disks {
                one_path: &single.block,
                map: stage.disk(),
            },
        )
    })
}
