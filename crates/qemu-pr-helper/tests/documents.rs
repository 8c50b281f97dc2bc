// SPDX-License-Identifier: MIT OR Apache-2.0

//! The documents name the events and tests that exist.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use helper_state::Event;
use pr_testkit::table;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");
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

/// Returns the rows of the table of events, as `name(argument, …)`.
fn rows() -> Result<Vec<String>> {
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
        let arguments = arguments.map(words).context("no arguments")?;
        Ok(format!("{name}({})", arguments.join(", ")))
    })
    .collect()
}

/// Returns `name(argument, …)` of a definition, `name(type argument, …) "format"`.
fn signature(line: &str) -> Result<String> {
    let (name, rest) = line.split_once('(').context("no arguments")?;
    let (arguments, _) = rest.split_once(')').context("no end")?;
    let arguments = arguments
        .split(", ")
        .filter(|argument| *argument != "void")
        .map(|argument| argument.rsplit([' ', '*']).next().unwrap_or_default());
    let arguments: Vec<_> = arguments.collect();
    Ok(format!("{name}({})", arguments.join(", ")))
}

#[test]
fn events_of_the_journal_are_documented() {
    for event in Event::ALL {
        let name = serde_json::to_string(&event).unwrap();
        let name = name.trim_matches('"');
        let row = format!("| `{name}` | `{}` |", event.message_id());
        assert!(OPERATIONS.contains(&row), "no row {row}");
    }
}

#[test]
fn table_of_events_is_complete() {
    let defined = stdout_of(&["--trace-events"]).unwrap();
    let defined = defined.lines().map(|line| signature(line).unwrap());
    table::assert_same(
        ("the table of events in docs/tracing.md", rows().unwrap()),
        ("--trace-events", defined),
    );
}

#[test]
fn event_list_matches_the_definitions() {
    let listed = stdout_of(&["-T", "help"]).unwrap();
    let defined = stdout_of(&["--trace-events"]).unwrap();
    let names = defined.lines().map(|line| line.split_once('(').unwrap().0);
    table::assert_same(
        ("-T help", listed.lines()),
        ("--trace-events", names.clone()),
    );
    assert!(listed.lines().eq(names), "another order: {listed}");
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
