// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `lio`: sends the same commands to `soft-lun` and to a LIO target.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use super::lio_target::{Port, Target};
use super::{Modules, uptime};
use pr_testkit::process::{run as run_command, timed};

/// Programs of the host for this scenario, and its parameters.
#[derive(Args)]
pub(crate) struct Options {
    /// Executable of the comparison
    #[arg(long)]
    comparison: PathBuf,
    /// Working directory of the comparison
    #[arg(long)]
    dir: PathBuf,
    /// Number of sequences to send
    #[arg(long)]
    sequences: u64,
    /// Seed of the random numbers
    #[arg(long)]
    seed: Option<u64>,
}

/// Sets up the target and runs the comparison.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [one, two]: [Port; 2] = target.create_unit()?;
    println!("guest: target ready after {} s", uptime()?);
    let ports = format!("{},{}", one.block.display(), two.block.display());
    let mut comparison = Command::new(&options.comparison);
    comparison
        .current_dir(&options.dir)
        .env("RUST_BACKTRACE", "1")
        .env("PR_LIO_PORTS", ports)
        .env("PR_LIO_SEQUENCES", options.sequences.to_string())
        .arg("lio::");
    if let Some(seed) = options.seed {
        comparison.env("PR_LIO_SEED", seed.to_string());
    }
    timed("comparison", || run_command(&mut comparison)).context("the comparison with LIO failed")
}
