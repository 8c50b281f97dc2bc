// SPDX-License-Identifier: MIT OR Apache-2.0

//! The steps. Each one starts with a disk without registrations and pending unit attentions, so
//! that a failure does not cause others.

mod access;
mod clearing;
mod fence;
mod lvm;
mod preemption;
mod registration;
mod releasing;
mod reports;
mod reservation;
mod wsfc;

use scsi_pr::ReservationType;

use super::session::{Session, StepResult};

pub(super) use fence::{FENCE, FENCE_MPATH, FENCE_SCSI};
pub(super) use lvm::LVM;
pub(super) use registration::SHARED;
pub(super) use wsfc::WSFC;

/// Requirements of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// A node.
    OneNode,
    /// Two nodes.
    TwoNodes,
    /// Two nodes, and a disk that may be written to.
    Write,
}

/// A rule, and the commands that check it.
pub(super) struct Step {
    /// Name, for reports and documents.
    pub(super) name: &'static str,
    /// The rule that the step checks.
    pub(super) rule: &'static str,
    pub(super) needs: Needs,
    pub(super) run: fn(&mut Session<'_>) -> StepResult,
}

impl Step {
    const fn one(
        name: &'static str,
        rule: &'static str,
        run: fn(&mut Session<'_>) -> StepResult,
    ) -> Self {
        Step {
            name,
            rule,
            needs: Needs::OneNode,
            run,
        }
    }

    const fn two(
        name: &'static str,
        rule: &'static str,
        run: fn(&mut Session<'_>) -> StepResult,
    ) -> Self {
        Step {
            name,
            rule,
            needs: Needs::TwoNodes,
            run,
        }
    }
}

/// The steps of SPC-4, in the order in which they build on each other.
pub(super) fn spc4() -> impl Iterator<Item = &'static Step> {
    [
        reports::FIRST,
        registration::FIRST,
        SHARED,
        registration::STEPS,
        reports::STEPS,
        reservation::STEPS,
        releasing::STEPS,
        preemption::STEPS,
        clearing::STEPS,
        access::STEPS,
    ]
    .into_iter()
    .flatten()
}

/// Runs a step for a type, unless the device reports that it does not support the type.
fn with_type(
    session: &mut Session<'_>,
    kind: ReservationType,
    run: impl FnOnce(&mut Session<'_>, ReservationType) -> StepResult,
) -> StepResult {
    let capabilities = session.capabilities(super::keys::A)?;
    match super::session::is_supported(&capabilities, kind) {
        true => run(session, kind),
        false => Err(super::session::unsupported(kind)),
    }
}
