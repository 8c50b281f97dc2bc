// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask dist`: builds man pages, completions and packages in `target/dist`.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

use packaging::source_date::SourceDate;
use packaging::staging::{self, Family};
use packaging::{PackageInputs, deb, rpm};
use pr_testkit::build;

/// Builds man pages, completions and packages in target/dist
#[derive(Parser)]
#[command(name = "packaging", bin_name = "cargo xtask dist")]
struct Options {
    /// Parts to build
    #[arg(value_name = "PART", default_values = ["texts", "deb", "rpm"])]
    parts: Vec<Part>,
    /// Maintainer that the packages name
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        default_value = "Local build <root@localhost>"
    )]
    maintainer: String,
    /// Build all parts again, from the compilation on, and fail if a package differs
    #[arg(long)]
    twice: bool,
}

/// Part of the distribution.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Man pages and completions, for the directory /usr/local/share
    Texts,
    /// Package for Debian
    Deb,
    /// Package for Fedora
    Rpm,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let target_dir = build::target_dir()?;
    let dir = target_dir.join("dist");
    build_parts(&dir, "packaged", options)?;
    if options.twice {
        let (other, programs) = (target_dir.join("dist-again"), "packaged-again");
        remove(&target_dir.join(programs))?;
        build_parts(&other, programs, options)?;
        compare(&dir, &other)?;
    }
    println!("xtask: built {}", dir.display());
    Ok(())
}

/// Builds the parts in `dir`, and the programs in the target directory `target_dir`.
fn build_parts(dir: &Path, target_dir: &str, options: &Options) -> Result<()> {
    let source_date = SourceDate::from_environment()?;
    remove(dir)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    if options.parts.contains(&Part::Texts) {
        staging::texts(&dir.join("share"), Family::Other, &source_date)?;
    }
    if options.parts.iter().all(|&part| part == Part::Texts) {
        return Ok(());
    }
    let inputs = PackageInputs {
        programs: build::packaged(target_dir)?,
        source_date,
        maintainer: options.maintainer.clone(),
    };
    if options.parts.contains(&Part::Deb) {
        deb::build(dir, &inputs)?;
    }
    if options.parts.contains(&Part::Rpm) {
        rpm::build(dir, &inputs)?;
    }
    Ok(())
}

/// Fails if a package in `other` differs from that in `dir`.
fn compare(dir: &Path, other: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let package = entry?.path();
        if !package.is_file() {
            continue;
        }
        let again = other.join(package.file_name().context("a package has a name")?);
        ensure!(
            fs::read(&package)? == fs::read(&again)?,
            "{} and {} differ; compare them with diffoscope",
            package.display(),
            again.display()
        );
        println!("xtask: the second {} is identical", package.display());
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
