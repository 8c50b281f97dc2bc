// SPDX-License-Identifier: MIT OR Apache-2.0

//! Generates the section of prhctl(1) about `sg_persist` and `mpathpersist`, from docs/prhctl.md.

use super::roff::{bold, escape, flow};

const DOCUMENT: &str = include_str!("../../../docs/prhctl.md");

/// Returns the section: an entry for each row of the table of service actions.
pub(super) fn section() -> String {
    let rows = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with("| service action |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let entries: String = rows.filter_map(entry).collect();
    let introduction =
        flow("Options of these programs and commands of prhctl for each service action:");
    format!(".SH SG_PERSIST AND MPATHPERSIST\n{introduction}{entries}")
}

fn entry(row: &str) -> Option<String> {
    let mut cells = row.split('|').skip(1).map(|cell| inline(cell.trim()));
    let mut next = || cells.next();
    let (action, sg_persist, mpathpersist, prhctl) = (next()?, next()?, next()?, next()?);
    Some(format!(
        ".TP\n{action}\nsg_persist: {sg_persist}\n.br\nmpathpersist: {mpathpersist}\n.br\n\
         prhctl: {prhctl}\n"
    ))
}

/// Returns text with its code in bold.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => escape(part),
            _ => bold(part),
        })
        .collect()
}
