//! Development tools of the project: `cargo xtask …`.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod dist;
mod exit_status;
mod fuzz;
mod guest;
mod instructions;
mod module_cycles;
mod process;
mod supply;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development tools of the project
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compares the helper with QEMU's and with a minimal server
    Bench(bench::Options),
    #[command(flatten)]
    BenchRole(bench::Role),
    /// Checks that modules do not depend on each other in cycles
    Cycles,
    /// Builds man pages, completions and packages in target/dist
    Dist(dist::Options),
    /// Fuzzes the parsers and state machines
    Fuzz(fuzz::Options),
    /// Counts the instructions of decoding and encoding, and checks them against bounds
    Instructions(instructions::Options),
    /// Prints the components of the installed programs as a CycloneDX document
    Sbom,
    /// Checks the licenses, versions and sources of all crates against deny.toml
    Supply,
    /// Boots virtual machines with a real SCSI target and runs scenarios in them
    Vm(vm::Options),
    /// Runs a scenario as the first process of such a machine
    #[command(hide = true)]
    GuestInit(guest::Options),
}

fn main() -> ExitCode {
    let result: Result<()> = match Arguments::parse().task {
        Task::Bench(options) => bench::run(&options),
        Task::BenchRole(role) => role.run(),
        Task::Cycles => module_cycles::run(),
        Task::Dist(options) => dist::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Instructions(options) => instructions::run(&options),
        Task::Sbom => supply::print_sbom(),
        Task::Supply => supply::check(),
        Task::Vm(options) => vm::run(&options),
        Task::GuestInit(options) => guest::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
