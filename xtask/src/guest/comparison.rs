//! Scenario `lio`: the software logical unit and the kernel's own SCSI target get the same commands.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use super::lio::{Port, Target};
use super::{Modules, uptime};
use crate::process::{run as run_command, timed};

/// What the host has built for this scenario, and how much of it is wanted.
#[derive(Args)]
pub(crate) struct Options {
    /// The comparison's binary
    #[arg(long)]
    comparison: PathBuf,
    /// The folder to run it in
    #[arg(long)]
    folder: PathBuf,
    /// How many sequences to send
    #[arg(long)]
    sequences: u64,
    /// Where the random numbers begin
    #[arg(long)]
    seed: Option<u64>,
}

/// Sets the target up and runs the comparison.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [one, two]: [Port; 2] = target.unit()?;
    println!("guest: target ready after {} s", uptime()?);
    let ports = format!("{},{}", one.block.display(), two.block.display());
    let mut comparison = Command::new(&options.comparison);
    comparison
        .current_dir(&options.folder)
        .env("RUST_BACKTRACE", "1")
        .env("PR_LIO_PORTS", ports)
        .env("PR_LIO_SEQUENCES", options.sequences.to_string())
        .arg("lio::");
    if let Some(seed) = options.seed {
        comparison.env("PR_LIO_SEED", seed.to_string());
    }
    timed("comparison", || run_command(&mut comparison))
        .context("the comparison with LIO found a difference")
}
