//! The processes that a benchmark is made of, beside the helpers: hidden tasks of this very program.
//!
//! Each says `ready`, begins when it is sent a line, prints what it found as one line of JSON, and
//! leaves when its standard input ends. So nothing is left over from a benchmark that was killed.

mod crowd;
mod floor;
mod hang;
mod load;
mod peer;

use std::io::{self, Read as _};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;

pub(super) use crowd::{Crowd, Gathered};
pub(super) use hang::disk;
pub(super) use load::{Load, Order, Served};
pub(super) use peer::connect;

/// The parts.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// The least that a helper must do
    #[command(name = "bench-floor", hide = true)]
    Floor(floor::Floor),
    /// Clients that ask as fast as they are answered, or in a rhythm
    #[command(name = "bench-load", hide = true)]
    Load(Load),
    /// Clients that connect, and do little or nothing then
    #[command(name = "bench-crowd", hide = true)]
    Crowd(Crowd),
    /// Devices that do not answer
    #[command(name = "bench-hang", hide = true)]
    Hang(hang::Hang),
}

impl Part {
    /// Plays the part.
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Floor(floor) => floor.run(),
            Self::Load(load) => load.run(),
            Self::Crowd(crowd) => crowd.run(),
            Self::Hang(hang) => hang.run(),
        }
    }
}

fn wait_for_the_word() -> Result<()> {
    println!("ready");
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .context("cannot read the standard input")?;
    Ok(())
}

fn report(found: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(found)?);
    Ok(())
}

fn wait_for_the_end() -> Result<()> {
    io::stdin()
        .read_to_end(&mut Vec::new())
        .context("cannot read the standard input")?;
    Ok(())
}
