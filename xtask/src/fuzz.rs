// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask fuzz`: runs the fuzz targets with cargo-fuzz and the stable compiler.
//!
//! New inputs are kept in `target/fuzz/corpus` for the next run. A failing input is written to
//! `fuzz/artifacts/TARGET/finding`.

use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use pr_testkit::{build, process};

/// Fixed arguments of libFuzzer. The decoders read short fields only, so longer inputs would only
/// cost time. The output of a target is discarded and printed again for a finding.
const FIXED_ARGUMENTS: [&str; 4] = [
    "-max_len=1024",
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-close_fd_mask=3",
];

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets to run, by their names in cargo fuzz list [default: all]
    targets: Vec<String>,
    /// Maximum duration of each target; 0 is unlimited
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Maximum number of inputs for each target; -1 is unlimited
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    runs: i64,
    /// Seed of the random numbers; 0 selects the time
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

/// Runs the targets, one for each core at the same time; fails if one of them fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    env::set_current_dir(build::root().canonicalize()?)?;
    process::run(&mut cargo_fuzz("build")?)?;
    let mut targets = options.targets.clone();
    if targets.is_empty() {
        let list = process::text(Command::new("cargo").args(["fuzz", "list"]))?;
        targets.extend(list.lines().map(str::to_owned));
    }
    let (queue, failed) = (Mutex::new(targets), Mutex::new(Vec::new()));
    let next = || queue.lock().map_or(None, |mut queue| queue.pop());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let result = run_target(&target, options);
                    if let (Err(error), Ok(mut failed)) = (result, failed.lock()) {
                        failed.push(format!("{target}: {error:#}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner()?;
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Returns a command of cargo-fuzz without a sanitizer, because these need a nightly compiler.
fn cargo_fuzz(subcommand: &str) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        // Linking twelve programs takes long enough without it.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .args(["fuzz", subcommand, "--sanitizer=none", "--codegen-units=16"])
        .arg("--target-dir")
        .arg(build::target_dir()?.join("fuzz"));
    Ok(command)
}

fn run_target(target: &str, options: &Options) -> Result<()> {
    // Absolute, because a target can change its working directory.
    let package = env::current_dir()?.join("fuzz");
    let seeds = package.join("corpus").join(target);
    let corpus = build::target_dir()?.join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let finding = package.join("artifacts").join(target).join("finding");
    let dictionary = package.join(format!("dictionaries/{target}.dict"));
    let mut fuzzer = cargo_fuzz("run")?;
    fuzzer.arg(target).arg(corpus).arg(seeds).arg("--");
    fuzzer.args(FIXED_ARGUMENTS).args([
        format!("-max_total_time={}", options.seconds),
        format!("-runs={}", options.runs),
        format!("-seed={}", options.seed),
        format!("-exact_artifact_path={}", finding.display()),
    ]);
    if dictionary.is_file() {
        fuzzer.arg(format!("-dict={}", dictionary.display()));
    }
    let output = fuzzer.output().context("cannot start cargo fuzz")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let summary = text.lines().rfind(|line| line.starts_with("Done "));
    println!("{target}: {}", summary.unwrap_or(&text));
    if !output.status.success() && finding.is_file() {
        process::run(cargo_fuzz("run")?.arg(target).arg(finding))?;
    }
    ensure!(
        output.status.success(),
        "the fuzzer failed with {}",
        output.status
    );
    Ok(())
}
