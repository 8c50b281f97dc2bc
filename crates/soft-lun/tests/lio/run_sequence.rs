// SPDX-License-Identifier: MIT OR Apache-2.0

//! Execution of a sequence on a target, and comparison of each response with the prediction.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use scsi_pr::{InServiceAction, PrGeneration};
use soft_lun::Response;

use crate::command::{Command, Node, Step};
use crate::kernel::Kernel;
use crate::lio_deviations::{Deviation, exclusion, predict};
use crate::model::{DisplayResponse, Model};
use crate::sequence;
use crate::target::Target;

/// Statistics of the executed sequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sequences: usize,
    pub(crate) commands: usize,
    pub(crate) deviations: BTreeMap<Deviation, usize>,
}

/// A response that differs from the prediction, and all steps up to it.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    kernel: Kernel,
    pub(crate) steps: Vec<Step>,
    /// The response of LIO. Its PRgeneration counts from zero, as in the text of the steps.
    pub(crate) response: Response,
}

/// Executes the steps, and then [`probe_steps`]. Omits a command that must not be sent in the
/// current state.
pub(crate) fn run_sequence(
    target: &mut impl Target,
    steps: &[Step],
    tally: &mut Tally,
) -> Result<Option<Difference>> {
    let generation = target.reset()?;
    let mut model = Model::empty(target.kernel(), generation);
    tally.sequences += 1;
    let steps = [steps, &probe_steps()].concat();
    for (index, step) in steps.iter().enumerate() {
        if exclusion(&model, step).is_some() {
            continue;
        }
        let prediction = predict(&model, step);
        let response = target.send(step)?;
        tally.commands += 1;
        if response != prediction.outcome.response {
            return Ok(Some(Difference {
                kernel: model.kernel,
                steps: steps[..=index].to_vec(),
                response: normalize_generation(generation, step, response),
            }));
        }
        if let Some(deviation) = prediction.deviation {
            *tally.deviations.entry(deviation).or_default() += 1;
        }
        model = prediction.outcome.model;
    }
    Ok(None)
}

/// Returns the response with PRgeneration counted from zero.
fn normalize_generation(start: PrGeneration, step: &Step, mut response: Response) -> Response {
    const CAPABILITIES: u8 = InServiceAction::ReportCapabilities.code();
    let counts = matches!(step.command, Command::In { action, .. } if action != CAPABILITIES);
    if let (true, Some(field)) = (counts, response.data.first_chunk_mut()) {
        let generation = u32::from_be_bytes(*field).wrapping_sub(start.get());
        *field = generation.to_be_bytes();
    }
    response
}

/// Returns commands that report everything visible of a unit, so that every effect of a sequence is
/// detected.
fn probe_steps() -> Vec<Step> {
    let reserve_in = |action| Command::In {
        action,
        length: 255,
    };
    let each = [
        Command::TestUnitReady,
        reserve_in(3),
        Command::Read,
        Command::Write,
    ];
    let step = |(command, node)| Step { node, command };
    let of_each = each
        .into_iter()
        .flat_map(|one| Node::BOTH.map(|node| (one.clone(), node)));
    let of_one = [
        (reserve_in(0), Node::A),
        (reserve_in(1), Node::B),
        (reserve_in(2), Node::A),
    ];
    of_each.chain(of_one).map(step).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sequence::text(self.kernel, &self.steps))?;
        writeln!(f, "# and that is not so, LIO's response is")?;
        write!(f, "! ??? {}", DisplayResponse(&self.response))
    }
}
