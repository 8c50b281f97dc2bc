// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text of `prhctl demo`.

use crate::commands::demo::{
    DemoEvent, DemoInfo, Demonstration, LunState, Node, NodeResponse, StepResult, node_names,
};
use crate::console::{BOLD, DIMMED, GOOD, INVALID, REJECTED, escape_path};

/// Returns the text of an event, which ends with an empty line.
pub(crate) fn event(event: &DemoEvent<'_>) -> String {
    match event {
        DemoEvent::Started(info) => introduction(info),
        DemoEvent::Completed(number, result) => step(*number, result),
    }
}

fn introduction(info: &DemoInfo) -> String {
    format!(
        "{BOLD}Two nodes of a cluster share a disk, and one of them fails.{BOLD:#}\n\n\
         The disk is a soft LUN, {}; each node has opened one of its ports.\n\
         The helper is {}, process {}. Reservation commands\n\
         go through the helper; writes go directly to the disk, like those of a guest.\n\n",
        escape_path(&info.lun),
        escape_path(&info.helper),
        info.helper_pid,
    )
}

/// Returns the last line of a demonstration that was not aborted.
pub(crate) fn conclusion(demonstration: &Demonstration) -> String {
    match demonstration.passed() {
        true => format!(
            "{GOOD}Every response matched the standard (SPC-4).{GOOD:#} The helper has exited and \
             all temporary files are gone.\n"
        ),
        false => format!(
            "{INVALID}This does not match the standard (SPC-4).{INVALID:#} The helper has exited \
             and all temporary files are gone.\n"
        ),
    }
}

fn step(number: usize, result: &StepResult) -> String {
    let StepResult {
        step,
        response,
        state,
        mismatches,
    } = result;
    let name = step.node.name();
    let mut text = format!("{BOLD}{number:2}. {}{BOLD:#}\n", step.headline);
    text += &match response {
        Some(response) => format!(
            "    {name} sends  {}\n    response     {}\n",
            step.action,
            response_text(response)
        ),
        None => format!("    {name}        {}\n", step.action),
    };
    text += &format!(
        "    registered   {}\n    reserved     {}\n    may write    {}\n",
        registered(state),
        match state.reservation {
            None => "no".to_owned(),
            Some((kind, holder)) => super::held_by(kind, holder.map(Node::name)),
        },
        node_names(&state.writers)
    );
    for line in step.lesson.lines() {
        text += &format!("    {DIMMED}{line}{DIMMED:#}\n");
    }
    for mismatch in mismatches {
        text += &format!("    {INVALID}{mismatch}{INVALID:#}\n");
    }
    text + "\n"
}

fn response_text(response: &NodeResponse) -> String {
    let style = if response.is_good() { GOOD } else { REJECTED };
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

fn registered(state: &LunState) -> String {
    let registered: Vec<_> = state
        .registered
        .iter()
        .map(|(node, key)| format!("{} {key}", node.name()))
        .collect();
    match registered.is_empty() {
        true => "none".to_owned(),
        false => registered.join(", "),
    }
}
