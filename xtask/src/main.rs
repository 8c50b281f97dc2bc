//! The project's own tools: `cargo xtask …`.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod dist;
mod fuzz;
mod guest;
mod instructions;
mod module_cycles;
mod process;
mod supply;
mod verdict;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own tools.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures the helper beside QEMU's and beside the least that a helper must do
    Bench(bench::Options),
    #[command(flatten)]
    BenchPart(bench::Part),
    /// Checks that modules do not depend on each other in cycles
    Cycles,
    /// Makes man pages, completions and packages in target/dist
    Dist(dist::Options),
    /// Looks for bytes that the project's parts do not do with what they say
    Fuzz(fuzz::Options),
    /// Counts the instructions of decoding and encoding, and holds them against bounds
    Instructions(instructions::Options),
    /// Prints what is in the programs that are installed, as a CycloneDX document
    Sbom,
    /// Holds the licences, versions and sources of all crates against deny.toml
    Supply,
    /// Boots virtual machines with a real SCSI target and runs scenarios inside them
    Vm(vm::Options),
    /// What runs inside such a machine, as its first process
    #[command(hide = true)]
    GuestInit(guest::Options),
}

fn main() -> ExitCode {
    let result: Result<()> = match Arguments::parse().task {
        Task::Bench(options) => bench::run(&options),
        Task::BenchPart(part) => part.run(),
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
