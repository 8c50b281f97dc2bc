//! What the documents say of events is what there is.

use std::collections::BTreeSet;
use std::process::Command;

const TRACING: &str = include_str!("../../../docs/tracing.md");

/// What the helper prints with this option.
fn printed(option: &str) -> String {
    let helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .arg(option)
        .output()
        .unwrap();
    assert!(helper.status.success());
    String::from_utf8(helper.stdout).unwrap()
}

/// The rows of the table of events: names, and arguments in order.
fn rows() -> Vec<(String, Vec<String>)> {
    let table = TRACING
        .split("| event | arguments | when |")
        .nth(1)
        .unwrap();
    let words = |cell: &str| {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            (words(cells[1]).concat(), words(cells[2]))
        })
        .collect()
}

#[test]
fn every_event_has_its_row_with_its_arguments() {
    let defined: BTreeSet<_> = printed("--trace-events")
        .lines()
        .map(|line| {
            let (name, rest) = line.split_once('(').unwrap();
            let (arguments, _) = rest.split_once(')').unwrap();
            let arguments = arguments.split(", ").filter(|argument| *argument != "void");
            let name_of = |argument: &str| {
                let name = argument.rsplit([' ', '*']).next().unwrap_or_default();
                name.to_owned()
            };
            (name.to_owned(), arguments.map(name_of).collect::<Vec<_>>())
        })
        .collect();
    let rows = rows();
    assert_eq!(rows.len(), defined.len());
    assert_eq!(BTreeSet::from_iter(rows), defined);
}

#[test]
fn the_list_is_that_of_the_definitions() {
    let listed = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .args(["-T", "help"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let defined = printed("--trace-events");
    let names = defined.lines().map(|line| line.split('(').next().unwrap());
    assert!(listed.lines().eq(names), "{listed}");
}
