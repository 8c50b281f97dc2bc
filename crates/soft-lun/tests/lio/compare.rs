//! Plays a sequence to a target and compares each answer with what was predicted.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use scsi_pr::{InServiceAction, PrGeneration};
use soft_lun::Response;

use crate::command::{Command, Side, Step};
use crate::departures::{Row, avoided, predict};
use crate::model::{Model, Shown};
use crate::sequence;
use crate::target::Target;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sequences: usize,
    pub(crate) commands: usize,
    pub(crate) rows: BTreeMap<Row, usize>,
}

/// An answer that was not predicted, and all that was sent before it.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) steps: Vec<Step>,
    /// LIO's answer, with a generation that began at zero as in the text of the steps.
    pub(crate) got: Response,
}

/// Plays the steps, and then [`look_around`]. A command that has to be avoided in the state that there is
/// then is left out.
pub(crate) fn play(
    target: &mut impl Target,
    steps: &[Step],
    tally: &mut Tally,
) -> Result<Option<Difference>> {
    let generation = target.reset()?;
    let mut model = Model::empty(generation);
    tally.sequences += 1;
    let steps = [steps, &look_around()].concat();
    for (place, step) in steps.iter().enumerate() {
        if avoided(&model, step).is_some() {
            continue;
        }
        let prediction = predict(&model, step);
        let got = target.send(step)?;
        tally.commands += 1;
        if got != prediction.outcome.answer {
            return Ok(Some(Difference {
                steps: steps[..=place].to_vec(),
                got: from_zero(generation, step, got),
            }));
        }
        if let Some(row) = prediction.row {
            *tally.rows.entry(row).or_default() += 1;
        }
        model = prediction.outcome.model;
    }
    Ok(None)
}

/// The answer of a unit whose generation began at zero.
fn from_zero(start: PrGeneration, step: &Step, mut answer: Response) -> Response {
    const CAPABILITIES: u8 = InServiceAction::ReportCapabilities.code();
    let counts = matches!(step.command, Command::In { action, .. } if action != CAPABILITIES);
    if let (true, Some(field)) = (counts, answer.data.first_chunk_mut()) {
        let generation = u32::from_be_bytes(*field).wrapping_sub(start.get());
        *field = generation.to_be_bytes();
    }
    answer
}

/// All that can be seen of a unit: whatever a sequence has done to it shows here.
fn look_around() -> Vec<Step> {
    let ask = |action| Command::In {
        action,
        length: 255,
    };
    let each = [
        Command::TestUnitReady,
        ask(3),
        Command::Read,
        Command::Write,
    ];
    let step = |(command, side)| Step { side, command };
    let of_each = each
        .into_iter()
        .flat_map(|one| Side::BOTH.map(|side| (one.clone(), side)));
    let of_one = [(ask(0), Side::A), (ask(1), Side::B), (ask(2), Side::A)];
    of_each.chain(of_one).map(step).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sequence::text(&self.steps))?;
        writeln!(f, "# and that is not so, LIO's answer is")?;
        write!(f, "! ??? {}", Shown(&self.got))
    }
}
