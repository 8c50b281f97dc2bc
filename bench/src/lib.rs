// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench`: compares the helper with QEMU's and with a minimal server, the floor.
//!
//! Each subject and each role of the benchmark is a process of its own, so that its resource use
//! can be measured separately. The roles are hidden subcommands of this program.

#![forbid(unsafe_code)]

mod chart;
mod context;
mod cores;
mod machine;
mod metric;
mod results;
mod role;
mod rounds;
mod scenario;
mod server;
mod statistics;
mod subject;
mod table;
mod usage;
mod worker;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use self::context::BenchContext;
use self::cores::Cores;
use self::results::Results;
use self::scenario::Scenario;
use self::subject::Subject;
use pr_testkit::process::timed;

use self::role::Role;
pub use self::scenario::Disks;

/// Measuring time of each point in a virtual machine, which can be emulated.
const VM_DURATION: Duration = Duration::from_secs(3);
const VM_ROUNDS: usize = 5;

/// Compares the helper with QEMU's and with a minimal server
#[derive(Parser)]
#[command(
    name = "bench",
    bin_name = "cargo xtask bench",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args)]
struct Options {
    /// Scenarios to run [default: all]
    scenarios: Vec<Scenario>,
    /// Number of rounds that count
    #[arg(long, value_name = "NUMBER", default_value_t = 7,
        value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measuring time of each point
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Run these subjects only
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Add a subject: the command line of a helper, to which -k and a socket are appended
    #[arg(long, value_name = "NAME=COMMAND")]
    also: Vec<Subject>,
    /// Pin subjects to one CPU and clients to the others, to show small differences
    #[arg(long)]
    pin_cpus: bool,
    /// Write every value of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the main metrics of the scenarios overhead, hung and idle as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Draw the chart from a file that an earlier run wrote with --json; measure nothing
    #[arg(long, value_name = "JSON", requires = "chart",
        conflicts_with_all = ["scenarios", "json"])]
    from: Option<PathBuf>,
}

/// Runs what the command line of this process asks for: scenarios, or one role.
///
/// # Errors
///
/// Fails if a scenario or the role fails.
pub fn run() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(role) => role.run(),
        None => run_scenarios(&arguments.options),
    }
}

/// Runs the scenarios one after another. A failed scenario does not stop the others.
fn run_scenarios(options: &Options) -> Result<()> {
    if let (Some(from), Some(chart)) = (&options.from, &options.chart) {
        return chart::redraw(from, chart);
    }
    let length = Duration::try_from_secs_f64(options.seconds).context("--seconds")?;
    raise_limit()?;
    let executable = env::current_exe().context("cannot find this program's own path")?;
    let mut subjects = subject::find(&options.only, &options.also, &executable)?;
    let machine = machine::describe(&subjects)?;
    let cores = options.pin_cpus.then(Cores::split).transpose()?;
    let context = BenchContext::new(executable, length, cores)?;
    let scenarios = match options.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        named => named,
    };
    if scenarios.contains(&Scenario::Trace) {
        subjects.extend(subject::find_traced(&options.only, &context.trace())?);
    }
    let (report, failed) = run_all(scenarios, &context, &subjects, options.rounds.into());
    let report = json!({
        "machine": machine,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "apart": options.pin_cpus,
        "scenarios": report,
    });
    if let Some(path) = &options.json {
        let text = format!("{report:#}\n");
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.chart {
        chart::write(report, path)?;
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Compares our helper with QEMU's on real disks, in a virtual machine. `executable` is the program
/// of the benchmark.
///
/// # Errors
///
/// Fails if a helper cannot be started or does not answer.
pub fn with_disks(
    executable: &Path,
    ours: &Path,
    original: &Path,
    disks: &Disks<'_>,
) -> Result<()> {
    raise_limit()?;
    let context = BenchContext::new(executable.to_owned(), VM_DURATION, None)?;
    let subjects = [
        Subject::new(subject::OURS, ours),
        Subject::new(subject::ORIGINAL, original),
    ];
    let mut results = Results::default();
    rounds::run(&subjects.each_ref(), VM_ROUNDS, &mut results, |subject| {
        scenario::disk::measure(&context, subject, disks)
    })?;
    table::print(&results, &[subject::OURS, subject::ORIGINAL]);
    Ok(())
}

/// Returns the results of each scenario by its name, and the names of the failed scenarios.
fn run_all(
    scenarios: &[Scenario],
    context: &BenchContext,
    subjects: &[Subject],
    rounds: usize,
) -> (Map<String, Value>, Vec<String>) {
    let mut report = Map::new();
    let mut failed = Vec::new();
    for scenario in scenarios {
        let name = scenario
            .to_possible_value()
            .map_or_else(String::new, |name| name.get_name().to_owned());
        println!("bench: {name}");
        let run = || run_one(*scenario, context, subjects, rounds);
        match timed(&name, run) {
            Ok(results) => {
                report.insert(name, results.json());
            }
            Err(error) => {
                eprintln!("bench: {name} FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    (report, failed)
}

fn run_one(
    scenario: Scenario,
    context: &BenchContext,
    subjects: &[Subject],
    rounds: usize,
) -> Result<Results> {
    let admitted: Vec<_> = subjects
        .iter()
        .filter(|subject| scenario.applies_to(subject))
        .collect();
    let mut results = Results::default();
    rounds::run(&admitted, rounds, &mut results, |subject| {
        scenario.measure(context, subject)
    })?;
    let names: Vec<_> = admitted
        .iter()
        .map(|subject| subject.name.as_str())
        .collect();
    table::print(&results, &names);
    Ok(results)
}

/// Raises the soft limit of open files to the hard limit. Subjects that do not raise it themselves
/// inherit it.
fn raise_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
