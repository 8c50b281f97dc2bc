// SPDX-License-Identifier: MIT OR Apache-2.0

//! Roles: the processes of a benchmark beside the subjects, which are hidden subcommands of this
//! program.
//!
//! Each process prints `ready`, waits for a line on its stdin, prints its result as one line of
//! JSON, and exits when its stdin is closed. So no process survives a benchmark that was killed.

mod floor;
mod fuse_hang;
mod idle_clients;
mod load;
mod raw_client;

use std::io::{self, Read as _};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;

pub(super) use idle_clients::{ConnectionCounts, IdleClients};
pub(super) use load::{Load, Served, Workload};
pub(super) use raw_client::connect;

/// The roles.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// A minimal server
    #[command(name = "bench-floor", hide = true)]
    Floor(floor::Floor),
    /// Clients that send requests continuously or at a fixed pace
    #[command(name = "bench-load", hide = true)]
    Load(Load),
    /// Clients that connect and then are mostly idle
    #[command(name = "bench-idle-clients", hide = true)]
    IdleClients(IdleClients),
    /// Devices that do not respond
    #[command(name = "bench-hang", hide = true)]
    Hang(fuse_hang::FuseHang),
}

impl Role {
    /// Runs the role.
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Floor(floor) => floor.run(),
            Self::Load(load) => load.run(),
            Self::IdleClients(clients) => clients.run(),
            Self::Hang(hang) => hang.run(),
        }
    }
}

fn wait_for_start_signal() -> Result<()> {
    println!("ready");
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .context("cannot read stdin")?;
    Ok(())
}

fn report(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}

fn wait_for_stdin_eof() -> Result<()> {
    io::stdin()
        .read_to_end(&mut Vec::new())
        .context("cannot read stdin")?;
    Ok(())
}
