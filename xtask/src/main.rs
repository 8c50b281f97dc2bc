// SPDX-License-Identifier: MIT OR Apache-2.0

//! Development tools of the project: `cargo xtask …`.

#![forbid(unsafe_code)]

mod fuzz;
mod instructions;
mod module_cycles;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use pr_testkit::{build, process};

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
    Bench(Forwarded),
    /// Checks that modules do not depend on each other in cycles
    Cycles,
    /// Builds man pages, completions and packages in target/dist
    Dist(Forwarded),
    /// Fuzzes the parsers and state machines with cargo-fuzz
    Fuzz(fuzz::Options),
    /// Counts the instructions of the codecs and of a soft LUN, and checks them against bounds
    Instructions(instructions::Options),
    /// Boots virtual machines with a real SCSI target and runs scenarios in them
    Vm(Forwarded),
}

/// Arguments that another program of the workspace parses.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Forwarded {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Forwarded {
    fn run(&self, program: &Path) -> Result<()> {
        process::run(Command::new(program).args(&self.arguments))
    }
}

fn main() -> ExitCode {
    let result: Result<()> = match Arguments::parse().task {
        Task::Bench(forwarded) => {
            build::release("bench").and_then(|program| forwarded.run(&program))
        }
        Task::Cycles => module_cycles::run(),
        Task::Dist(forwarded) => {
            build::debug("packaging").and_then(|program| forwarded.run(&program))
        }
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Instructions(options) => instructions::run(&options),
        Task::Vm(forwarded) => build::debug("vm-tests").and_then(|program| forwarded.run(&program)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
