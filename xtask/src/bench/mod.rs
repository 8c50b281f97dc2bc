//! `cargo xtask bench`: compares the helper with QEMU's and with a minimal server, the floor.
//!
//! Each subject and each role of the benchmark is a process of its own, so that its resource use
//! can be measured separately. The roles are hidden subcommands of this program's release build.

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

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use self::context::BenchContext;
use self::cores::Cores;
use self::results::Results;
use self::scenario::Scenario;
use self::subject::Subject;
use crate::build;
use crate::process::timed;

pub(crate) use self::role::Role;
pub(crate) use self::scenario::Disks;

/// Measuring time of each point in a virtual machine, which can be emulated.
const VM_DURATION: Duration = Duration::from_secs(3);
const VM_ROUNDS: usize = 5;

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
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

/// Runs the scenarios one after another. A failed scenario does not stop the others.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let (Some(from), Some(chart)) = (&options.from, &options.chart) {
        return chart::redraw(from, chart);
    }
    let length = Duration::try_from_secs_f64(options.seconds).context("--seconds")?;
    raise_limit()?;
    let xtask = build::release("xtask")?;
    let mut subjects = subject::find(&options.only, &options.also, &xtask)?;
    let machine = machine::describe(&subjects)?;
    let cores = options.pin_cpus.then(Cores::split).transpose()?;
    let context = BenchContext::new(xtask, length, cores)?;
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

/// Compares our helper with QEMU's on real disks, in a virtual machine.
pub(crate) fn with_disks(
    xtask: &Path,
    ours: &Path,
    original: &Path,
    disks: &Disks<'_>,
) -> Result<()> {
    raise_limit()?;
    let context = BenchContext::new(xtask.to_owned(), VM_DURATION, None)?;
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
        println!("xtask: {name}");
        let run = || run_one(*scenario, context, subjects, rounds);
        match timed(&name, run) {
            Ok(results) => {
                report.insert(name, results.json());
            }
            Err(error) => {
                eprintln!("xtask: {name} FAILED: {error:#}");
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
