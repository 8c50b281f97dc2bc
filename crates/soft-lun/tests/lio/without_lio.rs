// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the comparison itself, which need no LIO.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use scsi_pr::{PrGeneration, ReservationType};
use soft_lun::Response;

use crate::command::{ALL_TG_PT, APTPL, Command, HEADER, Node, Out, SPEC_I_PT, Step, UNREG};
use crate::generate;
use crate::kernel::Kernel;
use crate::lio_deviations::{self, Deviation, predict};
use crate::model::{Model, conflict};
use crate::random::Random;
use crate::run_sequence::{Tally, run_sequence};
use crate::sequence;
use crate::shrink::shrink;
use crate::target::Target;

/// Number of random sequences, the same as in a full run with LIO.
const SEQUENCES: usize = 2000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("lio_deviations::match_document", || {
            lio_deviations::check_document();
            Ok(())
        }),
        trial("lio_deviations::have_examples", deviations_have_examples),
        trial("command::text_round_trips", text_round_trips),
        trial("generate::reaches_all_categories", reaches_all_categories),
        trial("shrink::minimizes_planted_fault", minimizes_planted_fault),
    ];
    let stored = sequence::stored().unwrap().into_iter();
    trials.extend(stored.map(|(name, text)| {
        trial(format!("regressions::{name}"), move || {
            sequence::check(Kernel::of_file(&name)?, &text)
        })
    }));
    trials
}

fn trial(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn sequences(kernel: Kernel, count: usize) -> impl Iterator<Item = Vec<Step>> {
    let mut random = Random::new(1);
    (0..count).map(move |_| generate::sequence(kernel, &mut random))
}

/// Each deviation has a stored sequence with its name that shows it.
fn deviations_have_examples() -> Result<()> {
    for deviation in Deviation::ALL {
        let text = sequence::stored()?;
        let (_, text) = text
            .into_iter()
            .find(|(name, _)| *name == deviation.id())
            .with_context(|| format!("no regressions/{}.txt", deviation.id()))?;
        let mark = format!("! {} ", deviation.id());
        let shown = text.lines().any(|line| line.starts_with(&mark));
        ensure!(shown, "{} does not show {deviation:?}", deviation.id());
    }
    Ok(())
}

fn text_round_trips() -> Result<()> {
    let kernel = Kernel::V6_12;
    for steps in sequences(kernel, 200) {
        for step in &steps {
            ensure!(step.to_string().parse::<Step>()? == *step, "{step}");
        }
        let text = sequence::text(kernel, &steps);
        ensure!(sequence::steps(&text)? == steps, "{text}");
        sequence::check(kernel, &text)?;
    }
    Ok(())
}

/// Returns the categories that a command belongs to.
fn categories(model: &Model, step: &Step) -> Vec<String> {
    let mut categories = Vec::new();
    if !model.unit.unit_attentions(model.id(step.node)).is_empty() {
        categories.push("unit attention".to_owned());
    }
    match &step.command {
        Command::In { action, length } => {
            categories.push(format!("in {}", (*action).min(4)));
            categories.push(format!("in length {}", (*length).min(100)));
        }
        Command::Out(out) => categories.extend(out_categories(model, step.node, out)),
        other => categories.push(format!("{other:?}")),
    }
    categories
}

fn out_categories(model: &Model, node: Node, out: &Out) -> Vec<String> {
    let (action, kind) = (out.action.min(9), out.scope_type & 0x0f);
    let mut categories = vec![
        format!("out {action}"),
        format!("type {kind}"),
        format!("scope {}", out.scope_type >> 4),
    ];
    let keys = [
        ("own", model.key(node)),
        ("other's", model.key(node.other())),
        ("stale", Some(generate::STALE)),
        ("zero", Some(0)),
    ];
    for (owner, key) in keys {
        for (field, value) in [("key", out.key), ("action key", out.action_key)] {
            if key == Some(value) {
                categories.push(format!("{action}: {owner} {field}"));
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
    categories.extend(set.map(|(name, _)| format!("{action}: {name}")));
    if out.length() < HEADER {
        categories.push(format!("{action}: short"));
    } else if out.length.is_some() {
        categories.push(format!("{action}: other length"));
    }
    categories
}

/// Returns the categories that the generator must reach.
fn required_categories() -> Vec<String> {
    let mut required: Vec<String> = ["unit attention", "TestUnitReady", "Read", "Write"]
        .map(ToOwned::to_owned)
        .to_vec();
    required.extend((0..=4).map(|action| format!("in {action}")));
    required.extend((0..=100).map(|length| format!("in length {length}")));
    required.extend((0..16).map(|kind| format!("type {kind}")));
    required.extend((0..16).map(|scope| format!("scope {scope}")));
    for action in 0..=9 {
        required.push(format!("out {action}"));
        let owners = ["own", "other's", "stale", "zero"];
        required.extend(owners.map(|owner| format!("{action}: {owner} key")));
        required.extend(["short", "other length", "APTPL"].map(|what| format!("{action}: {what}")));
        let flags: &[&str] = match action {
            7 => &["UNREG"],
            _ => &["ALL_TG_PT", "SPEC_I_PT"],
        };
        required.extend(flags.iter().map(|flag| format!("{action}: {flag}")));
    }
    for action in [4, 5] {
        let owners = ["own", "other's", "stale", "zero"];
        required.extend(owners.map(|owner| format!("{action}: {owner} action key")));
    }
    required
}

/// The random sequences of a full run contain every category of commands and every deviation.
fn reaches_all_categories() -> Result<()> {
    for kernel in [Kernel::V6_12, Kernel::V7_1] {
        reaches_categories_of(kernel).with_context(|| format!("Linux {kernel}"))?;
    }
    Ok(())
}

fn reaches_categories_of(kernel: Kernel) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut deviations = BTreeSet::new();
    for steps in sequences(kernel, SEQUENCES) {
        let mut model = Model::empty(kernel, PrGeneration::default());
        for step in &steps {
            seen.extend(categories(&model, step));
            let prediction = predict(&model, step);
            deviations.extend(prediction.deviation);
            model = prediction.outcome.model;
        }
    }
    let missing: Vec<_> = required_categories()
        .into_iter()
        .filter(|kind| !seen.contains(kind))
        .collect();
    ensure!(missing.is_empty(), "never sent: {missing:?}");
    let missing: Vec<_> = Deviation::ALL
        .iter()
        .filter(|deviation| !deviations.contains(deviation))
        .collect();
    ensure!(missing.is_empty(), "never predicted: {missing:?}");
    Ok(())
}

/// A target that responds like LIO, except for one fault.
struct FaultyTarget(Model);

impl Target for FaultyTarget {
    fn kernel(&self) -> Kernel {
        self.0.kernel
    }

    fn send(&mut self, step: &Step) -> Result<Response> {
        let outcome = predict(&self.0, step).outcome;
        self.0 = outcome.model;
        let held = self.0.kind() == Some(ReservationType::ExclusiveAccessRegistrantsOnly);
        Ok(match step.command {
            Command::Read if held => conflict(),
            _ => outcome.response,
        })
    }

    fn reset(&mut self) -> Result<PrGeneration> {
        self.0 = Model::empty(self.0.kernel, 7.into());
        Ok(7.into())
    }
}

/// Finds the fault and shrinks the sequence to the minimum.
fn minimizes_planted_fault() -> Result<()> {
    let kernel = Kernel::V6_12;
    let mut target = FaultyTarget(Model::empty(kernel, PrGeneration::default()));
    let mut tally = Tally::default();
    let mut found = None;
    for steps in sequences(kernel, SEQUENCES) {
        found = run_sequence(&mut target, &steps, &mut tally)?;
        if found.is_some() {
            break;
        }
    }
    let found = found.context("the fault was not found")?;
    let steps = shrink(&found.steps, |steps| {
        Ok(run_sequence(&mut target, steps, &mut Tally::default())?.is_some())
    })?;
    // Two steps suffice, because `probe_steps` adds the READ that shows the fault.
    ensure!(
        steps.len() == 2,
        "not the smallest: {}",
        sequence::text(kernel, &steps)
    );
    Ok(())
}
