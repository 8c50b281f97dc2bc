//! A demonstration, for people and for programs.

use scsi_pr::ReservationType;
use serde::Serialize;

use crate::commands::demo::{Cast, Demonstration, Event, Node, Played, Reply, Scene, names};
use crate::output::held::{self, HeldJson};
use crate::output::json::{ErrorJson, SenseJson, StatusJson, text_of};
use crate::output::style::{BOLD, DIMMED, GOOD, REFUSED, WRONG};

/// What has just been played, for people.
pub(in crate::output) fn event(event: &Event<'_>) -> String {
    match event {
        Event::Begun(cast) => head(cast),
        Event::Played(number, played) => step(*number, played),
    }
}

fn head(cast: &Cast) -> String {
    let Cast {
        helper,
        process,
        lun,
    } = cast;
    format!(
        "{BOLD}Two nodes of a cluster share a disk, and one of them fails.{BOLD:#}\n\n\
         The disk is a soft LUN, {}; each node has a port of it open.\n\
         The helper is {}, process {process}. Reservation commands\n\
         go through it; a write goes to the disk itself, as a guest's does.\n\n",
        crate::output::path(lun),
        crate::output::path(helper)
    )
}

/// The verdict, for people.
pub(in crate::output) fn end(demonstration: &Demonstration) -> String {
    match demonstration.is_as_it_should_be() {
        true => format!(
            "{GOOD}All as the standard (SPC-4) says.{GOOD:#} The helper has ended, and everything is removed.\n"
        ),
        false => format!(
            "{WRONG}This is not as the standard (SPC-4) says.{WRONG:#} Everything is removed.\n"
        ),
    }
}

fn step(number: usize, played: &Played) -> String {
    let Played {
        step,
        reply,
        scene,
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
        registered(scene),
        held::text(reserved(scene), "no"),
        names(&scene.writers)
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

fn registered(scene: &Scene) -> String {
    let all = scene.registered.iter();
    let all: Vec<_> = all
        .map(|(node, key)| format!("{} {key}", node.name()))
        .collect();
    if all.is_empty() {
        "nobody".to_owned()
    } else {
        all.join(", ")
    }
}

fn reserved(scene: &Scene) -> Option<(ReservationType, Option<&'static str>)> {
    let (kind, holder) = scene.reservation?;
    Some((kind, holder.map(Node::name)))
}

/// For programs.
#[derive(Serialize)]
pub(in crate::output) struct DemoJson<'a> {
    as_it_should_be: bool,
    helper: String,
    lun: String,
    steps: Vec<StepJson>,
    /// What has broken it off, and nothing if nothing has.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorJson<'a>>,
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
    status: StatusJson,
    sense: Option<SenseJson>,
    keys: Option<Vec<String>>,
}

#[derive(Serialize)]
struct RegisteredJson {
    node: &'static str,
    key: String,
}

impl<'a> DemoJson<'a> {
    pub(in crate::output) fn of(
        demonstration: &Demonstration,
        error: Option<ErrorJson<'a>>,
    ) -> Self {
        DemoJson {
            as_it_should_be: demonstration.is_as_it_should_be(),
            helper: text_of(&demonstration.cast.helper),
            lun: text_of(&demonstration.cast.lun),
            steps: demonstration.steps.iter().map(StepJson::of).collect(),
            error,
        }
    }
}

impl StepJson {
    fn of(played: &Played) -> Self {
        let Played {
            step,
            reply,
            scene,
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
            registered: scene.registered.iter().map(registered).collect(),
            reservation: reserved(scene).map(HeldJson::of),
            may_write: scene.writers.iter().map(|node| node.name()).collect(),
            faults: faults.clone(),
        }
    }
}

impl AnswerJson {
    fn of(reply: &Reply) -> Self {
        let keys = reply.keys.as_ref();
        AnswerJson {
            status: StatusJson::of(reply.status),
            sense: reply.sense.as_ref().map(SenseJson::of),
            keys: keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
        }
    }
}
