// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask instructions`: counts the instructions of the codecs and of a soft LUN, because the
//! counts do not depend on the load of the machine.
//!
//! Callgrind runs each case with a thousand and with two thousand iterations. The difference of the
//! two counts excludes the start of the process, and needs no function names, which inlining can
//! remove.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use pr_testkit::{build, process};

/// Packages that have cases.
const PACKAGES: [&str; 3] = ["scsi-pr", "pr-helper-protocol", "soft-lun"];

/// Iterations of the first run, and additional iterations of the second.
const COUNT: u64 = 1000;

/// Margin of new bounds in percent, for other compiler versions.
const MARGIN_PERCENT: u64 = 12;

/// File of the bounds, in this package.
const FILE: &str = "instructions.txt";

/// First lines of the file.
const HEADER: &str = "\
# Maximum instructions of each case on x86-64, counted by `cargo xtask instructions`. After an
# intended change, or with a new compiler, run `cargo xtask instructions --renew`, which sets the
# bounds to the counts plus 12 %.
";

/// Arguments of `cargo xtask instructions`.
#[derive(Args)]
pub(crate) struct Options {
    /// Set new bounds: the current counts plus 12 %
    #[arg(long)]
    renew: bool,
}

/// A case, with its instruction count or its bound.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    case: String,
    instructions: u64,
}

/// Counts the instructions of all cases; fails if one exceeds its bound.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut counted = Vec::new();
    for package in PACKAGES {
        counted.extend(count_package(package)?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if options.renew {
        return fs::write(&path, with_margin(&counted)).context("cannot write the bounds");
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bounds = bounds(&text)?;
    println!("{:44}{:>8}{:>8}", "", "counted", "bound");
    for Line { case, instructions } in &counted {
        let bound = bound(&bounds, case).map_or_else(String::new, |bound| bound.to_string());
        println!("{case:44}{instructions:>8}{bound:>8}");
    }
    if !cfg!(target_arch = "x86_64") {
        println!("xtask: bounds not checked: they are for x86-64 only");
        return Ok(());
    }
    let errors = errors(&counted, &bounds);
    ensure!(
        errors.is_empty(),
        "{}; if this is intended, run cargo xtask instructions --renew",
        errors.join("; ")
    );
    Ok(())
}

fn count_package(package: &str) -> Result<Vec<Line>> {
    let cases = build::instructions(package)?;
    let names = process::text(&mut Command::new(&cases))?;
    let count = |name: &str| {
        let instructions = count_case(&cases, name)?;
        let case = format!("{package}: {name}");
        Ok(Line { case, instructions })
    };
    names.lines().map(count).collect()
}

fn count_case(cases: &PathBuf, name: &str) -> Result<u64> {
    let once = collected(cases, name, COUNT)?;
    let twice = collected(cases, name, 2 * COUNT)?;
    Ok(twice.saturating_sub(once) / COUNT)
}

/// Returns the instruction count of a whole run.
fn collected(cases: &PathBuf, name: &str, count: u64) -> Result<u64> {
    let mut valgrind = process::command("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // Valgrind's default log file is stderr.
        .arg("--log-fd=1")
        .arg(cases)
        .args([name, &count.to_string()]);
    let output = process::text(&mut valgrind)?;
    collected_number(&output).with_context(|| {
        format!(
            "{} printed no instruction count",
            process::command_line(&valgrind)
        )
    })
}

/// Parses `==1== Collected : 343133`.
fn collected_number(output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn bounds(text: &str) -> Result<Vec<Line>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (case, number) = line.rsplit_once(": ")?;
            Some(Line {
                case: case.to_owned(),
                instructions: number.parse().ok()?,
            })
        })
        .collect::<Option<_>>()
        .with_context(|| format!("a line of {FILE} is not `package: case: number`"))
}

fn bound(bounds: &[Line], case: &str) -> Option<u64> {
    let line = bounds.iter().find(|bound| bound.case == case)?;
    Some(line.instructions)
}

/// Returns the errors: cases above their bound, cases without a bound, and bounds without a case.
fn errors(counted: &[Line], bounds: &[Line]) -> Vec<String> {
    let error_of = |Line { case, instructions }: &Line| match bound(bounds, case) {
        None => Some(format!("`{case}` has no bound")),
        Some(bound) if *instructions > bound => Some(format!(
            "`{case}` takes {instructions} instructions, its bound is {bound}"
        )),
        Some(_) => None,
    };
    let has_no_case = |line: &&Line| bound(counted, &line.case).is_none();
    let unused = bounds.iter().filter(has_no_case);
    counted
        .iter()
        .filter_map(error_of)
        .chain(unused.map(|line| format!("the bound `{}` has no case", line.case)))
        .collect()
}

fn with_margin(counted: &[Line]) -> String {
    let lines = counted.iter().map(|Line { case, instructions }| {
        let bound = (instructions * (100 + MARGIN_PERCENT)).div_ceil(100);
        format!("{case}: {bound}\n")
    });
    [HEADER.to_owned()].into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(case: &str, instructions: u64) -> Line {
        let case = case.to_owned();
        Line { case, instructions }
    }

    #[test]
    fn count_is_parsed_from_valgrind_output() {
        let output =
            "==7== Callgrind, a profiler\n==7== Events    : Ir\n==7== Collected : 343133\n==7==\n";
        assert_eq!(collected_number(output), Some(343_133));
        assert_eq!(collected_number("valgrind: wrong option\n"), None);
    }

    #[test]
    fn bounds_are_read_as_written() {
        let text = with_margin(&[line("a: list, long", 100), line("b: x", 41)]);
        let bounds = bounds(&text).unwrap();
        assert_eq!(bounds, [line("a: list, long", 112), line("b: x", 46)]);
        assert!(super::bounds("a: b\n").is_err());
    }

    #[test]
    fn exceeded_and_missing_bounds_are_errors() {
        let counted = [line("a", 10), line("b", 11), line("c", 1)];
        let found = errors(&counted, &[line("a", 10), line("b", 10), line("d", 1)]);
        assert_eq!(
            found,
            [
                "`b` takes 11 instructions, its bound is 10",
                "`c` has no bound",
                "the bound `d` has no case"
            ]
        );
    }
}
