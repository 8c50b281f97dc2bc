//! `cargo xtask fuzz`: runs the targets of the package `fuzz` with libFuzzer.
//!
//! It uses the stable compiler and does not need `cargo fuzz`, but only LLVM's coverage pass and
//! libFuzzer, which `libfuzzer-sys` contains and a C++ compiler builds. New inputs are kept in
//! `target/fuzz/corpus` for the next run, and failing inputs in `target/fuzz/findings`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use pr_testkit::{build, process};

/// Name and directory of the package.
const PACKAGE: &str = "fuzz";

/// Environment variable that selects the target.
const VARIABLE: &str = "PR_FUZZ_TARGET";

/// Default duration of a target.
const DEFAULT_SECONDS: u64 = 10;

/// Fixed arguments of libFuzzer. The decoders read short fields only, so longer inputs would only
/// cost time. The output of a target is discarded and printed again for a finding.
const FIXED_ARGUMENTS: [&str; 5] = [
    "-max_len=1024",
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-close_fd_mask=3",
    "-print_final_stats=1",
];

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets to run, named after their directories in fuzz/corpus [default: all]
    targets: Vec<String>,
    /// Duration of each target [default: 10, or unlimited with --runs]
    #[arg(long)]
    seconds: Option<u64>,
    /// Maximum number of inputs for each target
    #[arg(long)]
    runs: Option<u64>,
    /// Seed of the random numbers [default: the time]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    seed: u32,
    /// Number of targets that run at the same time [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let seconds = match (self.seconds, self.runs) {
            (None, None) => Some(DEFAULT_SECONDS),
            (seconds, _) => seconds,
        };
        let seconds = seconds.map(|seconds| format!("-max_total_time={seconds}"));
        let runs = self.runs.map(|runs| format!("-runs={runs}"));
        let seed = format!("-seed={}", self.seed);
        seconds.into_iter().chain(runs).chain([seed]).collect()
    }
}

/// Result of a target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    target: String,
    executions: u64,
    per_second: u64,
    /// Edges covered by the corpus at the start, and at the end.
    edges: [Option<u64>; 2],
    new_inputs: u64,
    /// The failing input file.
    finding: Option<String>,
}

/// Runs the targets; fails if one of them fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(PACKAGE)
        .canonicalize()
        .context("cannot find the package of the targets")?;
    let known = sorted_names(&dir.join("corpus"))?;
    for target in &options.targets {
        let known = known.join(", ");
        ensure!(
            known.contains(target),
            "there is no target {target}; the targets are {known}"
        );
    }
    let targets = match options.targets.as_slice() {
        [] => &known,
        targets => targets,
    };
    let fuzzer = Fuzzer {
        program: process::timed("building the fuzzer", build::fuzzer)?,
        dir,
        data_dir: build::fuzzing_dir()?,
        arguments: options.arguments(),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let reports = fuzzer.run_all(targets, options.jobs.unwrap_or(cores).max(1))?;
    print(&reports);
    let failed: Vec<_> = reports
        .iter()
        .filter_map(|report| Some((&report.target, report.finding.as_ref()?)))
        .collect();
    for (target, file) in &failed {
        fuzzer.print_finding(target, file)?;
    }
    ensure!(
        failed.is_empty(),
        "{} of {} targets failed",
        failed.len(),
        reports.len()
    );
    Ok(())
}

/// Returns the sorted names in a directory.
fn sorted_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The fuzzer and its arguments.
struct Fuzzer {
    program: PathBuf,
    /// Directory of the package.
    dir: PathBuf,
    /// Directory of the files that it keeps.
    data_dir: PathBuf,
    arguments: Vec<String>,
}

impl Fuzzer {
    /// Runs targets, at most `jobs` at the same time.
    fn run_all(&self, targets: &[String], jobs: usize) -> Result<Vec<Report>> {
        let queue = Mutex::new(targets.iter());
        let work = || -> Result<Vec<Report>> {
            let next = || queue.lock().map_or(None, |mut queue| queue.next());
            std::iter::from_fn(next)
                .map(|target| self.run(target))
                .collect()
        };
        let mut reports = Vec::new();
        thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                let done = worker.join().ok().context("a thread panicked")?;
                reports.extend(done?);
            }
            Ok(())
        })?;
        reports.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(reports)
    }

    fn run(&self, target: &str) -> Result<Report> {
        let corpus = self.data_dir.join("corpus").join(target);
        let findings = self.data_dir.join("findings");
        for dir in [&corpus, &findings] {
            fs::create_dir_all(dir).context("cannot create the fuzzer's directories")?;
        }
        let dictionary = self.dir.join("dictionaries").join(format!("{target}.dict"));
        let prefix = findings.join(format!("{target}-"));
        let mut command = self.command(target);
        command
            .args(FIXED_ARGUMENTS)
            .args(&self.arguments)
            .arg(format!("-artifact_prefix={}", prefix.display()))
            .args(
                dictionary
                    .is_file()
                    .then(|| format!("-dict={}", dictionary.display())),
            )
            .arg(corpus)
            .arg(self.dir.join("corpus").join(target));
        let Output { status, stderr, .. } = command.output().context("cannot start the fuzzer")?;
        let output = String::from_utf8_lossy(&stderr);
        let report = Report::read(target, &output);
        ensure!(
            status.success() || report.finding.is_some(),
            "{target}: the fuzzer failed with {status} and without a finding: {output}"
        );
        Ok(report)
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env(VARIABLE, target).stdin(Stdio::null());
        command
    }

    /// Runs a target again with the failing input, and prints the command to reproduce it.
    fn print_finding(&self, target: &str, file: &str) -> Result<()> {
        let output = self.command(target).arg(file).output();
        let Output { stderr, .. } = output.context("cannot start the fuzzer")?;
        println!("\n{target} fails with {file}:");
        let output = String::from_utf8_lossy(&stderr);
        for line in output
            .lines()
            .skip_while(|line| !line.contains("panicked at"))
            .take(8)
        {
            println!("    {line}");
        }
        println!("  reproduce: cargo run --package {PACKAGE} {target} {file}");
        println!(
            "  once it is fixed, add it to `cargo test`: cp {file} {PACKAGE}/corpus/{target}/"
        );
        Ok(())
    }
}

impl Report {
    /// Parses the output of libFuzzer.
    fn read(target: &str, output: &str) -> Self {
        let statistic = |name: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
        };
        let mut edges = output.lines().filter_map(parse_edges);
        let finding = output
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

/// Parses `#2 INITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 27Mb`.
fn parse_edges(line: &str) -> Option<u64> {
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
            "per second",
            "edges",
            "new edges",
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
            report.finding.as_ref().map_or("passed", |_| "FAILED"),
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
    fn libfuzzer_output_is_parsed() {
        let output = "INFO: Seed: 7\n\
            #3\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 27Mb\n\
            #90\tNEW    cov: 11 ft: 12 corp: 2/5b lim: 4 exec/s: 0 rss: 27Mb \
            L: 4/4 MS: 1 ChangeByte-\n\
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
        assert_eq!(Report::read("a", output), expected);
        let output = "artifact_prefix='/f/a-'; Test unit written to /f/a-crash-1\nBase64: Cg==\n";
        assert_eq!(
            Report::read("a", output).finding.as_deref(),
            Some("/f/a-crash-1")
        );
    }
}
