// SPDX-License-Identifier: MIT OR Apache-2.0

//! The documents name the events and tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const SECURITY: &str = include_str!("../../../docs/security.md");
const TRACING: &str = include_str!("../../../docs/tracing.md");

/// Returns the standard output of the helper with these options.
fn stdout_of(options: &[&str]) -> Result<String> {
    let helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .args(options)
        .output()?;
    ensure!(helper.status.success(), "{}", helper.status);
    Ok(String::from_utf8(helper.stdout)?)
}

/// Returns the rows of the table of events: names, and arguments in order.
fn rows() -> Result<Vec<(String, Vec<String>)>> {
    let (_, table) = TRACING
        .split_once("| event | arguments | when |")
        .context("no table of events")?;
    let words = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let mut cells = line.split('|').skip(1);
        let (name, arguments) = (cells.next(), cells.next());
        let name = name.map(words).unwrap_or_default().concat();
        Ok((name, arguments.map(words).context("no arguments")?))
    })
    .collect()
}

/// Parses a definition, `name(type argument, …) "format"`, into its name and arguments.
fn definition(line: &str) -> Result<(String, Vec<String>)> {
    let (name, rest) = line.split_once('(').context("no arguments")?;
    let (arguments, _) = rest.split_once(')').context("no end")?;
    let arguments = arguments
        .split(", ")
        .filter(|argument| *argument != "void")
        .map(|argument| argument.rsplit([' ', '*']).next().unwrap_or_default());
    Ok((name.to_owned(), arguments.map(str::to_owned).collect()))
}

#[test]
fn table_of_events_is_complete() {
    let defined = stdout_of(&["--trace-events"]).unwrap();
    let defined: BTreeSet<_> = defined
        .lines()
        .map(|line| definition(line).unwrap())
        .collect();
    let rows = rows().unwrap();
    assert_eq!(rows.len(), defined.len());
    assert_eq!(BTreeSet::from_iter(rows), defined);
}

#[test]
fn event_list_matches_the_definitions() {
    let listed = stdout_of(&["-T", "help"]).unwrap();
    let defined = stdout_of(&["--trace-events"]).unwrap();
    let names = defined.lines().map(|line| definition(line).unwrap().0);
    assert!(listed.lines().eq(names), "{listed}");
}

/// Each row of the table of threats names files and tests that exist.
#[test]
fn tests_of_threats_exist() {
    let (_, table) = SECURITY.split_once("| proved by |").unwrap();
    let rows = table.lines().skip(2);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 20, "no table of threats");
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    for row in rows {
        let cell = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let words: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!words.is_empty(), "no test: {row}");
        for pair in words.chunks(2) {
            let [file, test] = pair else {
                panic!("file without a test: {row}");
            };
            let paths = [own.join(file), own.join("../..").join(file)];
            let text = paths.iter().find_map(|path| fs::read_to_string(path).ok());
            let text = text.unwrap_or_else(|| panic!("missing file {file}"));
            let exists = text.contains(&format!("fn {test}("));
            assert!(exists, "missing test {test} in {file}");
        }
    }
}
