//! `cargo xtask bench`: the helper beside QEMU's own, and beside the least that a helper must do.
//!
//! Each contestant and each part of the benchmark is a process of its own, so that what one takes is not
//! taken for another's; the parts are this program, built as it is released.

mod chart;
mod contestant;
mod cores;
mod figure;
mod lab;
mod machine;
mod part;
mod results;
mod rounds;
mod scenario;
mod server;
mod statistics;
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

use self::contestant::Contestant;
use self::cores::Cores;
use self::lab::Lab;
use self::results::Results;
use self::scenario::Scenario;
use crate::build;
use crate::process::timed;

pub(crate) use self::part::Part;
pub(crate) use self::scenario::Disks;

/// In a virtual machine, which may be emulated: for how long each point is measured, and how often.
const IN_MACHINE: Duration = Duration::from_secs(3);
const ROUNDS_IN_MACHINE: usize = 5;

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// Which scenarios to run [default: all]
    scenarios: Vec<Scenario>,
    /// How many rounds count
    #[arg(long, value_name = "NUMBER", default_value_t = 7,
        value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// For how long each point is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Only these contestants
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// One more contestant: a helper, to which -k and a socket are appended
    #[arg(long, value_name = "NAME=COMMAND")]
    also: Vec<Contestant>,
    /// Keep contestants on one core and clients on the others, to tell small differences apart
    #[arg(long)]
    apart: bool,
    /// Write every value of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures that say most: of the scenarios overhead, hung and idle, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Draw what an earlier run has written with --json, and measure nothing
    #[arg(long, value_name = "JSON", requires = "chart", conflicts_with_all = ["scenarios", "json"])]
    from: Option<PathBuf>,
}

/// Runs the scenarios one after another; one that fails does not stop the others.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let (Some(from), Some(chart)) = (&options.from, &options.chart) {
        return chart::redraw(from, chart);
    }
    let length = Duration::try_from_secs_f64(options.seconds).context("--seconds")?;
    raise_limit()?;
    let parts = build::release("xtask")?;
    let mut contestants = contestant::find(&options.only, &options.also, &parts)?;
    let machine = machine::describe(&contestants)?;
    let cores = options.apart.then(Cores::divide).transpose()?;
    let lab = Lab::new(parts, length, cores)?;
    let scenarios = match options.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        named => named,
    };
    if scenarios.contains(&Scenario::Trace) {
        contestants.extend(contestant::find_traced(&options.only, &lab.trace())?);
    }
    let (report, failed) = run_all(scenarios, &lab, &contestants, options.rounds.into());
    let report = json!({
        "machine": machine,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "apart": options.apart,
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

/// In a virtual machine: ours and QEMU's helper, with disks that answer.
pub(crate) fn with_disks(
    parts: &Path,
    ours: &Path,
    original: &Path,
    disks: &Disks<'_>,
) -> Result<()> {
    raise_limit()?;
    let lab = Lab::new(parts.to_owned(), IN_MACHINE, None)?;
    let contestants = [
        Contestant::new(contestant::OURS, ours),
        Contestant::new(contestant::ORIGINAL, original),
    ];
    let mut results = Results::default();
    rounds::run(
        &contestants.each_ref(),
        ROUNDS_IN_MACHINE,
        &mut results,
        |contestant| scenario::disk::measure(&lab, contestant, disks),
    )?;
    table::print(&results, &[contestant::OURS, contestant::ORIGINAL]);
    Ok(())
}

/// The results of each scenario by its name, and the names of those that have failed.
fn run_all(
    scenarios: &[Scenario],
    lab: &Lab,
    contestants: &[Contestant],
    rounds: usize,
) -> (Map<String, Value>, Vec<String>) {
    let mut report = Map::new();
    let mut failed = Vec::new();
    for scenario in scenarios {
        let name = scenario
            .to_possible_value()
            .map_or_else(String::new, |name| name.get_name().to_owned());
        println!("xtask: {name}");
        let run = || run_one(*scenario, lab, contestants, rounds);
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
    lab: &Lab,
    contestants: &[Contestant],
    rounds: usize,
) -> Result<Results> {
    let admitted: Vec<_> = contestants
        .iter()
        .filter(|contestant| scenario.admits(contestant))
        .collect();
    let mut results = Results::default();
    rounds::run(&admitted, rounds, &mut results, |contestant| {
        scenario.measure(lab, contestant)
    })?;
    let names: Vec<_> = admitted
        .iter()
        .map(|contestant| contestant.name.as_str())
        .collect();
    table::print(&results, &names);
    Ok(results)
}

/// Contestants that do not raise their limit of descriptors themselves get what there is.
fn raise_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of descriptors")
}
