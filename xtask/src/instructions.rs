//! `cargo xtask instructions`: how many instructions the codecs take, which is the same on a busy machine too.
//!
//! Each case runs a thousand times and two thousand times under callgrind. The difference is that of a thousand,
//! with whatever a process does at its start taken away; nothing has to be found by the name of a function, which
//! the compiler may have made a part of another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{build, process};

/// The packages that have cases.
const PACKAGES: [&str; 2] = ["scsi-pr", "pr-helper-protocol"];

/// How often a case runs, and how often more.
const COUNT: u64 = 1000;

/// Of a hundred instructions a bound has so many more: other compilers make other ones.
const ROOM: u64 = 12;

/// Where the bounds are, in this package.
const FILE: &str = "instructions.txt";

/// What the file begins with.
const HEADER: &str = "\
# The most instructions that a case may take on x86-64, as `cargo xtask instructions` counts them. After a change that
# is worth it, or with a new compiler: `cargo xtask instructions --renew`, which leaves 12 % of room.
";

/// Arguments of `cargo xtask instructions`.
#[derive(Args)]
pub(crate) struct Options {
    /// Make what is counted now, and 12 % more, the new bounds
    #[arg(long)]
    renew: bool,
}

/// A case, and its instructions: those that it takes, or those that it may take.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    case: String,
    instructions: u64,
}

/// Counts the instructions of all cases; fails if one takes more than it may.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut counted = Vec::new();
    for package in PACKAGES {
        counted.extend(count_package(package)?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if options.renew {
        return fs::write(&path, with_room(&counted)).context("cannot write the bounds");
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
        println!("xtask: the bounds are for x86-64: nothing is judged");
        return Ok(());
    }
    let complaints = complaints(&counted, &bounds);
    ensure!(
        complaints.is_empty(),
        "{}; if that is meant: cargo xtask instructions --renew",
        complaints.join("; ")
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

/// The instructions of a whole run.
fn collected(cases: &PathBuf, name: &str, count: u64) -> Result<u64> {
    let mut valgrind = process::command("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // Else it says what it counts on standard error.
        .arg("--log-fd=1")
        .arg(cases)
        .args([name, &count.to_string()]);
    let said = process::text(&mut valgrind)?;
    number_in(&said).with_context(|| format!("{} counted nothing", process::shown(&valgrind)))
}

/// From `==1== Collected : 343133`.
fn number_in(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
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

/// What is wrong: cases that take too much, and those that are in one of the two lists only.
fn complaints(counted: &[Line], bounds: &[Line]) -> Vec<String> {
    let of_case = |Line { case, instructions }: &Line| match bound(bounds, case) {
        None => Some(format!("`{case}` has no bound")),
        Some(bound) if *instructions > bound => {
            Some(format!("`{case}` takes {instructions}, may take {bound}"))
        }
        Some(_) => None,
    };
    let is_gone = |line: &&Line| bound(counted, &line.case).is_none();
    let gone = bounds.iter().filter(is_gone);
    counted
        .iter()
        .filter_map(of_case)
        .chain(gone.map(|line| format!("`{}` is a bound of no case", line.case)))
        .collect()
}

fn with_room(counted: &[Line]) -> String {
    let lines = counted.iter().map(|Line { case, instructions }| {
        let bound = (instructions * (100 + ROOM)).div_ceil(100);
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
    fn the_count_is_found_in_what_valgrind_says() {
        let said =
            "==7== Callgrind, a profiler\n==7== Events    : Ir\n==7== Collected : 343133\n==7==\n";
        assert_eq!(number_in(said), Some(343_133));
        assert_eq!(number_in("valgrind: wrong option\n"), None);
    }

    #[test]
    fn bounds_are_read_as_they_are_written() {
        let text = with_room(&[line("a: list, long", 100), line("b: x", 41)]);
        let bounds = bounds(&text).unwrap();
        assert_eq!(bounds, [line("a: list, long", 112), line("b: x", 46)]);
        assert!(super::bounds("a: b\n").is_err());
    }

    #[test]
    fn too_much_and_unknown_is_complained_of() {
        let counted = [line("a", 10), line("b", 11), line("c", 1)];
        let found = complaints(&counted, &[line("a", 10), line("b", 10), line("d", 1)]);
        assert_eq!(
            found,
            [
                "`b` takes 11, may take 10",
                "`c` has no bound",
                "`d` is a bound of no case"
            ]
        );
    }
}
