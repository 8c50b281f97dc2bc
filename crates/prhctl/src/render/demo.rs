//! A demonstration, for people and for programs.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::json::SenseJson;
use crate::demo::{Demonstration, Node, Played, Reply, Situation};
use crate::names;

const BOLD: Style = Style::new().bold();
const DIMMED: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const REFUSED: Style = AnsiColor::Yellow.on_default();
const WRONG: Style = AnsiColor::Red.on_default().bold();

/// For people.
pub(super) fn text(demonstration: &Demonstration) -> String {
    let Demonstration {
        helper,
        process,
        lun,
        steps,
    } = demonstration;
    let head = format!(
        "{BOLD}Two nodes of a cluster share a disk, and one of them fails.{BOLD:#}\n\n\
         The disk is a soft LUN, {}; each node has a port of it open.\n\
         The helper is {}, process {process}. Reservation commands\n\
         go through it; a write goes to the disk itself, as a guest's does.\n",
        lun.display(),
        helper.display()
    );
    let steps = steps
        .iter()
        .zip(1_u32..)
        .map(|(step, number)| self::step(number, step));
    let steps: String = steps.collect();
    let end = match demonstration.is_as_it_should_be() {
        true => format!(
            "{GOOD}All as the standard (SPC-4) says.{GOOD:#} The helper has ended, and everything is removed.\n"
        ),
        false => format!(
            "{WRONG}This is not as the standard (SPC-4) says.{WRONG:#} Everything is removed.\n"
        ),
    };
    format!("{head}\n{steps}{end}")
}

fn step(number: u32, played: &Played) -> String {
    let Played {
        step,
        reply,
        situation,
        faults,
    } = played;
    let name = step.node.name();
    let mut text = format!("{BOLD}{number:2}. {}{BOLD:#}\n", step.headline);
    text += &match reply {
        Some(reply) => format!(
            "    {name} asks   {}\n    answer       {}\n",
            step.act,
            answer(reply)
        ),
        None => format!("    {name}        {}\n", step.act),
    };
    text += &format!(
        "    registered   {}\n    reserved     {}\n    may write    {}\n",
        registered(situation),
        reserved(situation),
        nodes(&situation.writers)
    );
    for line in step.lesson.lines() {
        text += &format!("    {DIMMED}{line}{DIMMED:#}\n");
    }
    for fault in faults {
        text += &format!("    {WRONG}{fault}{WRONG:#}\n");
    }
    text + "\n"
}

fn answer(reply: &Reply) -> String {
    let style = if reply.is_good() { GOOD } else { REFUSED };
    let mut text = format!("{style}{}{style:#}", reply.status);
    if let Some(sense) = &reply.sense {
        text += &format!(": {sense}");
    }
    if let Some(keys) = &reply.keys {
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        text += &format!(", keys: {}", keys.join(" "));
    }
    text
}

fn registered(situation: &Situation) -> String {
    let all = situation.registered.iter();
    let all: Vec<_> = all
        .map(|(node, key)| format!("{} {key}", node.name()))
        .collect();
    if all.is_empty() {
        "nobody".to_owned()
    } else {
        all.join(", ")
    }
}

fn reserved(situation: &Situation) -> String {
    match situation.reservation {
        None => "no".to_owned(),
        Some((kind, Some(holder))) => format!("{kind}, held by {}", holder.name()),
        Some((kind, None)) => format!("{kind}, held by all registrants"),
    }
}

fn nodes(nodes: &[Node]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| node.name()).collect();
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

/// For programs.
#[derive(Serialize)]
pub(super) struct DemoJson {
    as_it_should_be: bool,
    helper: String,
    lun: String,
    steps: Vec<StepJson>,
}

#[derive(Serialize)]
struct StepJson {
    headline: &'static str,
    node: &'static str,
    request: String,
    /// `null` if nothing was asked.
    answer: Option<AnswerJson>,
    registered: Vec<RegisteredJson>,
    reservation: Option<HeldJson>,
    may_write: Vec<&'static str>,
    faults: Vec<String>,
}

#[derive(Serialize)]
struct AnswerJson {
    status: String,
    sense: Option<SenseJson>,
    keys: Option<Vec<String>>,
}

#[derive(Serialize)]
struct RegisteredJson {
    node: &'static str,
    key: String,
}

#[derive(Serialize)]
struct HeldJson {
    r#type: &'static str,
    /// `null` where all registrants hold it.
    holder: Option<&'static str>,
}

impl DemoJson {
    pub(super) fn of(demonstration: &Demonstration) -> Self {
        DemoJson {
            as_it_should_be: demonstration.is_as_it_should_be(),
            helper: demonstration.helper.to_string_lossy().into_owned(),
            lun: demonstration.lun.to_string_lossy().into_owned(),
            steps: demonstration.steps.iter().map(StepJson::of).collect(),
        }
    }
}

impl StepJson {
    fn of(played: &Played) -> Self {
        let Played {
            step,
            reply,
            situation,
            faults,
        } = played;
        let registered = |(node, key): &(Node, scsi_pr::ReservationKey)| RegisteredJson {
            node: node.name(),
            key: key.to_string(),
        };
        StepJson {
            headline: step.headline,
            node: step.node.name(),
            request: step.act.to_string(),
            answer: reply.as_ref().map(AnswerJson::of),
            registered: situation.registered.iter().map(registered).collect(),
            reservation: situation.reservation.map(|(kind, holder)| HeldJson {
                r#type: names::of_type(kind).1,
                holder: holder.map(Node::name),
            }),
            may_write: situation.writers.iter().map(|node| node.name()).collect(),
            faults: faults.clone(),
        }
    }
}

impl AnswerJson {
    fn of(reply: &Reply) -> Self {
        let keys = reply.keys.as_ref();
        AnswerJson {
            status: reply.status.to_string(),
            sense: reply.sense.as_ref().map(SenseJson::of),
            keys: keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
        }
    }
}
