// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text of the demonstration: the introduction, the steps, the summary and the conclusion.

use anstyle::Style;

use super::runner::{LunState, NodeResponse, StepResult, node_names};
use super::scenario::Node;

use super::{DemoInfo, Demonstration};
use crate::console::{BOLD, GOOD, INVALID, PLAIN, REJECTED, escape_path, table};
use crate::output::text;
use crate::wrap::wrap;

/// Number of columns that the summary needs for the headlines of the steps.
const MIN_SUMMARY_COLUMNS: usize = 80;
/// Number of columns that the summary needs as a table.
const MIN_TABLE_COLUMNS: usize = 40;

/// Returns the introduction.
pub(super) fn introduction(info: &DemoInfo, width: usize) -> String {
    let title =
        format!("{BOLD}Two nodes of a cluster share a disk, and one of them fails.{BOLD:#}");
    let lun = format!(
        "The disk is a soft LUN: files emulate a logical unit, which is a disk in terms of SCSI, \
         the command set of disks. The files are in {}.",
        escape_path(&info.lun)
    );
    let helper = format!(
        "The helper is the program that executes the reservation commands of virtual machines. \
         Here it is {}, process {}, and it serves both nodes.",
        escape_path(&info.helper),
        info.helper_pid
    );
    let paragraphs = [
        &title,
        "A cluster is a group of hosts, its nodes, that continue the work of a failed one. The \
         failed node must not write any more. A reservation ensures this: it is a rule, kept and \
         enforced by the disk, about which nodes may write. The disk knows a node by a key, a \
         number that the node chooses.",
        &lun,
        &helper,
    ];
    paragraphs.map(|text| wrap("", text, width)).join("\n")
}

/// Returns a step: its headline, the command and the response.
pub(super) fn command(number: usize, result: &StepResult, width: usize) -> String {
    let StepResult { step, response, .. } = result;
    let headline = format!("{BOLD}{}{BOLD:#}", step.headline);
    let text = wrap(&format!("{BOLD}{number:2}.{BOLD:#} "), &headline, width);
    let name = step.node.name();
    let action = step.action.to_string();
    text + &match response {
        Some(response) => {
            wrap(&format!("    {name} sends  "), &action, width)
                + &wrap("    response     ", &response_text(response), width)
        }
        None => wrap(&format!("    {name}        "), &action, width),
    }
}

/// Returns the properties of the disk that differ from those of `previous`, one a line. Without
/// `previous`, returns all.
pub(super) fn state(state: &LunState, previous: Option<&LunState>, width: usize) -> String {
    let properties = properties(state).into_iter().enumerate();
    let previous = previous.map(self::properties);
    let changed = properties.filter(|(index, property)| {
        previous
            .as_ref()
            .is_none_or(|previous| previous.get(*index) != Some(property))
    });
    changed
        .map(|(_, (label, value))| wrap(&format!("    {label:13}"), &value, width))
        .collect()
}

fn properties(state: &LunState) -> [(&'static str, String); 3] {
    let registered = state.registered.iter();
    let registered: Vec<_> = registered
        .map(|(node, key)| format!("{} {key}", node.name()))
        .collect();
    let reserved = state
        .reservation
        .map(|(kind, holder)| text::held_by(kind, holder.map(Node::name)));
    [
        (
            "registered",
            match registered.is_empty() {
                true => "none".to_owned(),
                false => registered.join(", "),
            },
        ),
        ("reserved", reserved.unwrap_or_else(|| "no".to_owned())),
        ("may write", node_names(&state.writers)),
    ]
}

/// Returns the explanation of a step, and its mismatches.
pub(super) fn explanation(result: &StepResult, width: usize) -> String {
    let mut text = wrap("    ", result.step.lesson, width);
    for mismatch in &result.mismatches {
        text += &wrap("    ", &format!("{INVALID}{mismatch}{INVALID:#}"), width);
    }
    text
}

fn response_text(response: &NodeResponse) -> String {
    let style = response_style(response);
    let mut text = format!("{style}{}{style:#}", response.status);
    if let Some(sense) = &response.sense {
        text += &format!(": {sense}");
    }
    if let Some(keys) = &response.keys {
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        text += &format!(", keys: {}", keys.join(" "));
    }
    text
}

pub(super) fn response_style(response: &NodeResponse) -> Style {
    if response.is_good() { GOOD } else { REJECTED }
}

/// Returns a table of the steps, or a list on a narrow terminal.
pub(super) fn summary(steps: &[StepResult], width: usize) -> String {
    let rows = steps.iter().zip(1..).map(|(result, number)| {
        let number: usize = number;
        let step = match width >= MIN_SUMMARY_COLUMNS {
            true => format!("{number:2}. {}", result.step.headline),
            false => format!("{number:2}."),
        };
        let Some(response) = &result.response else {
            return (PLAIN, vec![step, "-".to_owned(), "-".to_owned()]);
        };
        let style = if response.is_good() { PLAIN } else { REJECTED };
        let sense = response.sense.as_ref().map(|sense| sense.key.to_string());
        let text = sense.unwrap_or_else(|| response.status.to_string());
        (
            style,
            vec![step, result.step.action.name().to_owned(), text],
        )
    });
    if width >= MIN_TABLE_COLUMNS {
        return table(&["step", "command", "result"], rows);
    }
    let line = |(style, cells): (Style, Vec<String>)| {
        let (step, result) = cells.split_at(1);
        let result = format!("{style}{}{style:#}", result.join(" "));
        wrap(&format!("{} ", step.concat()), &result, width)
    };
    rows.map(line).collect()
}

/// Returns the last sentences of a demonstration that was not aborted.
pub(super) fn conclusion(demonstration: &Demonstration, width: usize) -> String {
    let (style, result) = match demonstration.passed() {
        true => (GOOD, "Every response matched"),
        false => (INVALID, "This does not match"),
    };
    let text = format!(
        "{style}{result} the standard (SPC-4, SCSI Primary Commands).{style:#} The helper has \
         exited and all temporary files are gone."
    );
    wrap("", &text, width)
}
