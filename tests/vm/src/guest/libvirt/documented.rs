// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of docs/operations.md with their output, and the comparison with the output of this
//! machine.

use anyhow::{Result, ensure};

use crate::guest::prhctl_command::Prhctl;

const DOCUMENT: &str = include_str!("../../../../../docs/operations.md");

/// Beginning of a block with a command.
const BLOCK: &str = "\n```text\n# prhctl ";

/// Columns with values that differ between runs.
const VARYING: [&str; 5] = ["TIME", "HELPER", "PID", "FOR", "COMMANDS"];

/// Column with a command in progress and, after a comma, its age.
const IN_PROGRESS: &str = "WAITS FOR";

/// Runs the documented commands with one of these subcommands, and compares their output with the
/// document. Returns the outputs.
pub(super) fn run(prhctl: Prhctl<'_>, subcommands: &[&str]) -> Result<String> {
    let mut outputs = String::new();
    let mut different = Vec::new();
    let is_selected = |arguments: &str| {
        let subcommand = arguments.split(' ').next();
        subcommand.is_some_and(|one| subcommands.contains(&one))
    };
    for (arguments, documented) in commands(DOCUMENT) {
        if !is_selected(arguments) {
            continue;
        }
        let output = prhctl.run_line(arguments)?;
        println!("# prhctl {arguments}\n{}{}", output.stdout, output.stderr);
        if output.status != Some(0) || normalize(&output.stdout) != normalize(documented) {
            different.push(arguments);
        }
        outputs += &output.stdout;
    }
    ensure!(
        different.is_empty(),
        "the output in docs/operations.md differs from that above, also without times and process \
         IDs; replace it: {different:?}"
    );
    Ok(outputs)
}

/// Returns the arguments of each documented command of `prhctl`, and its output.
fn commands(document: &str) -> impl Iterator<Item = (&str, &str)> {
    let blocks = document.split(BLOCK).skip(1);
    let blocks = blocks.filter_map(|block| block.split_once("\n```"));
    blocks.filter_map(|(block, _)| block.split_once('\n'))
}

/// Returns the cells of each line, with `*` in place of those that differ between runs.
fn normalize(output: &str) -> Vec<Vec<String>> {
    let mut header: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        let cells = line.split("  ").map(str::trim);
        let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
        if is_header(&cells) {
            header.clone_from(&cells);
        }
        let is_date = cells.iter().any(|cell| cell.contains(", UTC"));
        let columns = header.iter().copied().chain(std::iter::repeat(""));
        let cells = cells.iter().zip(columns).map(|(cell, column)| {
            if *cell == column {
                return column.to_owned();
            }
            match cell.rsplit_once(", ") {
                _ if is_date || VARYING.contains(&column) => "*".to_owned(),
                Some((command, _)) if column == IN_PROGRESS => format!("{command}, *"),
                _ => (*cell).to_owned(),
            }
        });
        lines.push(cells.collect());
    }
    lines
}

/// Returns whether all of several cells are names of columns.
fn is_header(cells: &[&str]) -> bool {
    let is_name = |cell: &&str| cell.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
    cells.len() > 1 && cells.iter().all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_has_a_block() {
        let all: Vec<_> = commands(DOCUMENT).collect();
        for command in ["holders /dev/", "disks", "history ", "clients"] {
            let has = all.iter().any(|(line, _)| line.starts_with(command));
            assert!(has, "no block with prhctl {command}");
        }
        assert!(all.iter().all(|(_, output)| !output.is_empty()));
    }

    #[test]
    fn varying_cells_are_masked() {
        let first = "2026-11-29, UTC+00:00\n TIME      NAME  WAITS FOR\n 02:04:23  web1  \
            READ KEYS on 8:0, 3s\n";
        let second = "2026-12-01, UTC+01:00\n TIME          NAME  WAITS FOR\n 1d 02:04:2    web1  \
            READ KEYS on 8:0, 12s\n";
        assert_eq!(normalize(first), normalize(second));
        for other in [("web1", "web2"), ("8:0", "8:16"), ("READ", "WRITE")] {
            let changed = first.replace(other.0, other.1);
            assert_ne!(normalize(first), normalize(&changed), "{changed}");
        }
    }

    #[test]
    fn block_ends_with_its_fence() {
        let document = "a\n```text\n# prhctl disks\n X  Y\n-\n```\nb\n```text\nother\n```\n";
        let all: Vec<_> = commands(document).collect();
        assert_eq!(all, [("disks", " X  Y\n-")]);
    }
}
