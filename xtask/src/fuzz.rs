//! `cargo xtask fuzz`: libFuzzer looks for bytes that disprove what the targets of the package `fuzz` say.
//!
//! It runs with the stable compiler and without `cargo fuzz`: all it takes is LLVM's pass for coverage, and
//! libFuzzer itself, which `libfuzzer-sys` brings and a C++ compiler builds. What it finds of interest stays in
//! `target/fuzz/corpus` for the next run; what disproves something, in `target/fuzz/findings`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::{build, process};

/// The package, beside this one.
const PACKAGE: &str = "fuzz";

/// The variable by which the fuzzer is told its target.
const VARIABLE: &str = "PR_FUZZ_TARGET";

/// How long a target runs if nothing is said.
const SECONDS: u64 = 10;

/// What libFuzzer is told in any case. Nothing that is read is longer than a few fields, so that long inputs only
/// take long; and what a target prints is printed again for a finding alone.
const ALWAYS: [&str; 5] = [
    "-max_len=1024",
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-close_fd_mask=3",
    "-print_final_stats=1",
];

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Which targets to run [default: all], by their folders in fuzz/corpus
    targets: Vec<String>,
    /// How long each of them runs [default: 10, and without an end with --runs]
    #[arg(long)]
    seconds: Option<u64>,
    /// How many inputs each of them is given at most
    #[arg(long)]
    runs: Option<u64>,
    /// Where the random numbers begin [default: the time]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    seed: u32,
    /// How many targets run at a time [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let seconds = match (self.seconds, self.runs) {
            (None, None) => Some(SECONDS),
            (seconds, _) => seconds,
        };
        let seconds = seconds.map(|seconds| format!("-max_total_time={seconds}"));
        let runs = self.runs.map(|runs| format!("-runs={runs}"));
        let seed = format!("-seed={}", self.seed);
        seconds.into_iter().chain(runs).chain([seed]).collect()
    }
}

/// What became of a target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    target: String,
    executions: u64,
    per_second: u64,
    /// Edges that the inputs came to that were there before, and that all came to.
    edges: [Option<u64>; 2],
    new_inputs: u64,
    /// The file that disproves something.
    finding: Option<String>,
}

/// Runs the targets; fails if one of them is disproved.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(PACKAGE)
        .canonicalize()
        .context("there is no package of targets")?;
    let all = names(&folder.join("corpus"))?;
    for target in &options.targets {
        let known = all.join(", ");
        ensure!(
            all.contains(target),
            "no target {target}: there are {known}"
        );
    }
    let targets = match options.targets.as_slice() {
        [] => &all,
        targets => targets,
    };
    let fuzzer = Fuzzer {
        program: process::timed("building the fuzzer", build::fuzzer)?,
        folder,
        kept: build::fuzzing_folder()?,
        arguments: options.arguments(),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let reports = fuzzer.run_all(targets, options.jobs.unwrap_or(cores).max(1))?;
    print(&reports);
    let found: Vec<_> = reports
        .iter()
        .filter_map(|report| Some((&report.target, report.finding.as_ref()?)))
        .collect();
    for (target, file) in &found {
        fuzzer.explain(target, file)?;
    }
    ensure!(
        found.is_empty(),
        "{} of {} targets are disproved",
        found.len(),
        reports.len()
    );
    Ok(())
}

/// What a folder has, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The fuzzer, and all that it is given.
struct Fuzzer {
    program: PathBuf,
    /// That of the package.
    folder: PathBuf,
    /// Where what it finds is kept.
    kept: PathBuf,
    arguments: Vec<String>,
}

impl Fuzzer {
    /// Runs targets, so many at a time.
    fn run_all(&self, targets: &[String], jobs: usize) -> Result<Vec<Report>> {
        let left = Mutex::new(targets.iter());
        let work = || -> Result<Vec<Report>> {
            let next = || left.lock().map_or(None, |mut left| left.next());
            std::iter::from_fn(next)
                .map(|target| self.run(target))
                .collect()
        };
        let mut reports = Vec::new();
        thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                let done = worker.join().ok().context("a thread has panicked")?;
                reports.extend(done?);
            }
            Ok(())
        })?;
        reports.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(reports)
    }

    fn run(&self, target: &str) -> Result<Report> {
        let corpus = self.kept.join("corpus").join(target);
        let findings = self.kept.join("findings");
        for folder in [&corpus, &findings] {
            fs::create_dir_all(folder).context("cannot keep what the fuzzer finds")?;
        }
        let dictionary = self
            .folder
            .join("dictionaries")
            .join(format!("{target}.dict"));
        let prefix = findings.join(format!("{target}-"));
        let mut command = self.command(target);
        command
            .args(ALWAYS)
            .args(&self.arguments)
            .arg(format!("-artifact_prefix={}", prefix.display()))
            .args(
                dictionary
                    .is_file()
                    .then(|| format!("-dict={}", dictionary.display())),
            )
            .arg(corpus)
            .arg(self.folder.join("corpus").join(target));
        let Output { status, stderr, .. } = command.output().context("cannot start the fuzzer")?;
        let said = String::from_utf8_lossy(&stderr);
        let report = Report::read(target, &said);
        ensure!(
            status.success() || report.finding.is_some(),
            "{target}: the fuzzer ended with {status} and without a finding: {said}"
        );
        Ok(report)
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env(VARIABLE, target).stdin(Stdio::null());
        command
    }

    /// Runs a target once more over what disproves it, and says how to do so again.
    fn explain(&self, target: &str, file: &str) -> Result<()> {
        let output = self.command(target).arg(file).output();
        let Output { stderr, .. } = output.context("cannot start the fuzzer")?;
        println!("\n{target} is disproved by {file}:");
        let said = String::from_utf8_lossy(&stderr);
        for line in said
            .lines()
            .skip_while(|line| !line.contains("panicked at"))
            .take(8)
        {
            println!("    {line}");
        }
        println!("  again: cargo run --package {PACKAGE} {target} {file}");
        println!(
            "  for `cargo test` to know it, once it is mended: cp {file} {PACKAGE}/corpus/{target}/"
        );
        Ok(())
    }
}

impl Report {
    /// From what libFuzzer has said.
    fn read(target: &str, said: &str) -> Self {
        let statistic = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
        };
        let mut edges = said.lines().filter_map(edges_in);
        let finding = said
            .lines()
            .find_map(|line| line.split_once("Test unit written to "));
        Self {
            target: target.to_owned(),
            executions: statistic("stat::number_of_executed_units:"),
            per_second: statistic("stat::average_exec_per_sec:"),
            edges: [edges.clone().next(), edges.next_back()],
            new_inputs: statistic("stat::new_units_added:"),
            finding: finding.map(|(_, file)| file.trim().to_owned()),
        }
    }
}

/// From `#2 INITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 27Mb`.
fn edges_in(line: &str) -> Option<u64> {
    let (_, rest) = line.strip_prefix('#')?.split_once(" cov: ")?;
    rest.split(' ').next()?.parse().ok()
}

fn print(reports: &[Report]) {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "target",
            "executions",
            "a second",
            "edges",
            "of them new",
            "new inputs",
            "result",
        ]);
    for report in reports {
        let [before, after] = report.edges.map(Option::unwrap_or_default);
        let numbers = [
            report.executions,
            report.per_second,
            after,
            after.saturating_sub(before),
            report.new_inputs,
        ];
        let mut row = vec![Cell::new(&report.target)];
        row.extend(numbers.map(|number| Cell::new(number).set_alignment(CellAlignment::Right)));
        row.push(Cell::new(
            report.finding.as_ref().map_or("holds", |_| "DISPROVED"),
        ));
        table.add_row(row);
    }
    println!("{table}");
    let sum: u64 = reports.iter().map(|report| report.executions).sum();
    println!("{sum} executions");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let said = "INFO: Seed: 7\n\
            #3\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 27Mb\n\
            #90\tNEW    cov: 11 ft: 12 corp: 2/5b lim: 4 exec/s: 0 rss: 27Mb L: 4/4 MS: 1 ChangeByte-\n\
            #99\tDONE   cov: 12 ft: 13 corp: 2/5b lim: 4096 exec/s: 33 rss: 27Mb\n\
            stat::number_of_executed_units: 99\n\
            stat::average_exec_per_sec:     33\n\
            stat::new_units_added:          1\n";
        let expected = Report {
            target: "a".to_owned(),
            executions: 99,
            per_second: 33,
            edges: [Some(9), Some(12)],
            new_inputs: 1,
            finding: None,
        };
        assert_eq!(Report::read("a", said), expected);
        let said = "artifact_prefix='/f/a-'; Test unit written to /f/a-crash-1\nBase64: Cg==\n";
        assert_eq!(
            Report::read("a", said).finding.as_deref(),
            Some("/f/a-crash-1")
        );
    }
}
