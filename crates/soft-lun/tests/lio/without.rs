//! What can be proved of the comparison itself, without LIO.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use scsi_pr::{PrGeneration, ReservationType};
use soft_lun::Response;

use crate::command::{ALL_TG_PT, APTPL, Command, HEADER, Out, SPEC_I_PT, Side, Step, UNREG};
use crate::compare::{Tally, play};
use crate::departures::{self, Row, predict};
use crate::generate;
use crate::model::{Model, conflict};
use crate::random::Random;
use crate::sequence;
use crate::shrink::shrink;
use crate::target::Target;

/// As many as a run against LIO has.
const SEQUENCES: usize = 2000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("departures::document_is_complete", || {
            departures::check_document()
        }),
        trial("departures::each_has_an_example", examples),
        trial("command::text_and_back", text_and_back),
        trial("generate::everything_is_sent", everything_is_sent),
        trial("shrink::a_planted_fault", planted_fault),
    ];
    let stored = sequence::stored().unwrap().into_iter();
    trials.extend(stored.map(|(name, text)| {
        trial(format!("regressions::{name}"), move || {
            sequence::check(&text)
        })
    }));
    trials
}

fn trial(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn sequences(count: usize) -> impl Iterator<Item = Vec<Step>> {
    let mut random = Random::new(1);
    (0..count).map(move |_| generate::sequence(&mut random))
}

/// For each row there is a stored sequence of its name, which the row is in.
fn examples() -> Result<()> {
    for row in Row::ALL {
        let text = sequence::stored()?;
        let (_, text) = text
            .into_iter()
            .find(|(name, _)| *name == row.id())
            .with_context(|| format!("no regressions/{}.txt", row.id()))?;
        let mark = format!("! {} ", row.id());
        let shown = text.lines().any(|line| line.starts_with(&mark));
        ensure!(shown, "{} does not show {row:?}", row.id());
    }
    Ok(())
}

fn text_and_back() -> Result<()> {
    for steps in sequences(200) {
        for step in &steps {
            ensure!(step.to_string().parse::<Step>()? == *step, "{step}");
        }
        let text = sequence::text(&steps);
        ensure!(sequence::steps(&text)? == steps, "{text}");
        sequence::check(&text)?;
    }
    Ok(())
}

/// What the generator is there to send, by name.
fn kinds(model: &Model, step: &Step) -> Vec<String> {
    let mut kinds = Vec::new();
    if !model.unit.unit_attentions(model.id(step.side)).is_empty() {
        kinds.push("unit attention".to_owned());
    }
    match &step.command {
        Command::In { action, length } => {
            kinds.push(format!("in {}", (*action).min(4)));
            kinds.push(format!("in length {}", (*length).min(100)));
        }
        Command::Out(out) => kinds.extend(kinds_of_out(model, step.side, out)),
        other => kinds.push(format!("{other:?}")),
    }
    kinds
}

fn kinds_of_out(model: &Model, side: Side, out: &Out) -> Vec<String> {
    let (action, kind) = (out.action.min(9), out.scope_type & 0x0f);
    let mut kinds = vec![
        format!("out {action}"),
        format!("type {kind}"),
        format!("scope {}", out.scope_type >> 4),
    ];
    let keys = [
        ("own", model.key(side)),
        ("other's", model.key(side.other())),
        ("stale", Some(generate::STALE)),
        ("zero", Some(0)),
    ];
    for (whose, key) in keys {
        for (field, value) in [("key", out.key), ("action key", out.action_key)] {
            if key == Some(value) {
                kinds.push(format!("{action}: {whose} {field}"));
            }
        }
    }
    let flags = match action {
        7 => vec![
            ("UNREG", out.rest[1] & UNREG),
            ("APTPL", out.rest[1] & APTPL),
        ],
        _ => vec![
            ("APTPL", out.flags() & APTPL),
            ("ALL_TG_PT", out.flags() & ALL_TG_PT),
            ("SPEC_I_PT", out.flags() & SPEC_I_PT),
        ],
    };
    let set = flags.into_iter().filter(|(_, flag)| *flag != 0);
    kinds.extend(set.map(|(name, _)| format!("{action}: {name}")));
    if out.length() < HEADER {
        kinds.push(format!("{action}: short"));
    } else if out.length.is_some() {
        kinds.push(format!("{action}: odd length"));
    }
    kinds
}

/// What [`kinds`] must have named.
fn wanted() -> Vec<String> {
    let mut wanted: Vec<String> = ["unit attention", "TestUnitReady", "Read", "Write"]
        .map(ToOwned::to_owned)
        .to_vec();
    wanted.extend((0..=4).map(|action| format!("in {action}")));
    wanted.extend((0..=100).map(|length| format!("in length {length}")));
    wanted.extend((0..16).map(|kind| format!("type {kind}")));
    wanted.extend((0..16).map(|scope| format!("scope {scope}")));
    for action in 0..=9 {
        wanted.push(format!("out {action}"));
        let whose = ["own", "other's", "stale", "zero"];
        wanted.extend(whose.map(|whose| format!("{action}: {whose} key")));
        wanted.extend(["short", "odd length", "APTPL"].map(|what| format!("{action}: {what}")));
        let flags: &[&str] = match action {
            7 => &["UNREG"],
            _ => &["ALL_TG_PT", "SPEC_I_PT"],
        };
        wanted.extend(flags.iter().map(|flag| format!("{action}: {flag}")));
    }
    for action in [4, 5] {
        let whose = ["own", "other's", "stale", "zero"];
        wanted.extend(whose.map(|whose| format!("{action}: {whose} action key")));
    }
    wanted
}

/// As many sequences as a run has come to all kinds of commands, and to each row.
fn everything_is_sent() -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut rows = BTreeSet::new();
    for steps in sequences(SEQUENCES) {
        let mut model = Model::empty(PrGeneration::default());
        for step in &steps {
            seen.extend(kinds(&model, step));
            let prediction = predict(&model, step);
            rows.extend(prediction.row);
            model = prediction.outcome.model;
        }
    }
    let missing: Vec<_> = wanted()
        .into_iter()
        .filter(|kind| !seen.contains(kind))
        .collect();
    ensure!(missing.is_empty(), "never sent: {missing:?}");
    let missing: Vec<_> = Row::ALL.iter().filter(|row| !rows.contains(row)).collect();
    ensure!(missing.is_empty(), "never predicted: {missing:?}");
    Ok(())
}

/// Does what is predicted of LIO, but has a fault.
struct Faulty(Model);

impl Target for Faulty {
    fn send(&mut self, step: &Step) -> Result<Response> {
        let outcome = predict(&self.0, step).outcome;
        self.0 = outcome.model;
        let held = self.0.kind() == Some(ReservationType::ExclusiveAccessRegistrantsOnly);
        Ok(match step.command {
            Command::Read if held => conflict(),
            _ => outcome.answer,
        })
    }

    fn reset(&mut self) -> Result<PrGeneration> {
        self.0 = Model::empty(7.into());
        Ok(7.into())
    }
}

/// The fault is found, and shrunk to the three commands that it takes.
fn planted_fault() -> Result<()> {
    let mut target = Faulty(Model::empty(PrGeneration::default()));
    let mut tally = Tally::default();
    let mut found = None;
    for steps in sequences(SEQUENCES) {
        found = play(&mut target, &steps, &mut tally)?;
        if found.is_some() {
            break;
        }
    }
    let found = found.context("the fault was not found")?;
    let steps = shrink(&found.steps, |steps| {
        Ok(play(&mut target, steps, &mut Tally::default())?.is_some())
    })?;
    // What looks around at the end reads too.
    ensure!(
        steps.len() == 2,
        "not the smallest: {}",
        sequence::text(&steps)
    );
    Ok(())
}
