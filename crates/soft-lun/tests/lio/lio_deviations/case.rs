// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of a unit and a command, as the deviations query them.

use scsi_pr::{AdditionalSense, OutServiceAction, ReservationType};
use soft_lun::{Response, UnitAttention};

use super::predict;
use crate::command::{ALL_TG_PT, Command, HEADER, Node, Out, SPEC_I_PT, Step};
use crate::model::{Model, Outcome, conflict, illegal};

/// A unit, and a command that it receives.
pub(super) struct Case<'a> {
    pub(super) model: &'a Model,
    pub(super) step: &'a Step,
}

impl Case<'_> {
    pub(super) fn node(&self) -> Node {
        self.step.node
    }

    /// Returns the outcome in soft-lun.
    pub(super) fn soft_lun_outcome(&self) -> Outcome {
        self.model.soft_lun_outcome(self.step)
    }

    /// Returns the outcome of another command in LIO.
    pub(super) fn lio_outcome_of(&self, out: Out) -> Outcome {
        let step = Step {
            node: self.node(),
            command: Command::Out(out),
        };
        predict(self.model, &step).outcome
    }

    pub(super) fn unit_attentions(&self) -> &[UnitAttention] {
        self.model.unit.unit_attentions(self.model.id(self.node()))
    }

    /// Returns the key that the sender is registered with.
    pub(super) fn own_key(&self) -> Option<u64> {
        self.model.key(self.node())
    }

    pub(super) fn is_holder(&self) -> bool {
        self.model.unit.is_holder(self.model.id(self.node()))
    }

    /// Returns the outcome of a command that has this response and changes nothing.
    pub(super) fn respond(&self, response: Response) -> Option<Outcome> {
        Some(self.model.with_response(response))
    }

    pub(super) fn illegal(&self, code: AdditionalSense) -> Option<Outcome> {
        self.respond(illegal(code))
    }

    pub(super) fn conflict(&self) -> Option<Outcome> {
        self.respond(conflict())
    }

    /// Returns service action and allocation length of a PERSISTENT RESERVE IN.
    pub(super) fn reserve_in(&self) -> Option<(u8, usize)> {
        match self.step.command {
            Command::In { action, length } => Some((action, length.into())),
            _ => None,
        }
    }

    /// Returns the command if it is a PERSISTENT RESERVE OUT.
    pub(super) fn reserve_out(&self) -> Option<&Out> {
        match &self.step.command {
            Command::Out(out) => Some(out),
            _ => None,
        }
    }

    /// Returns the command if it has one of these service actions, and LIO rejects it neither for
    /// the reservation of another nexus nor for the length of the list.
    pub(super) fn passes_checks(&self, actions: &[OutServiceAction]) -> Option<&Out> {
        let out = self.reserve_out()?;
        let known = actions.iter().any(|action| action.code() == out.action);
        (known && !self.conflicts(out) && form_error(out).is_none()).then_some(out)
    }

    /// Like [`Self::passes_checks`], for a sender that is registered and sends its own key.
    pub(super) fn passes_checks_with_key(&self, actions: &[OutServiceAction]) -> Option<&Out> {
        self.passes_checks(actions)
            .filter(|out| self.own_key() == Some(out.key))
    }

    /// Returns whether LIO responds RESERVATION CONFLICT before it reads the parameter list,
    /// according to its table of service actions that are allowed with a reservation that the
    /// sender does not hold. With an all registrants type, LIO takes one of the registrants for the
    /// holder.
    pub(super) fn conflicts(&self, out: &Out) -> bool {
        let Some(kind) = self.model.kind() else {
            return false;
        };
        if self.model.lio_holder() == Some(self.node()) {
            return false;
        }
        let registered = self.own_key().is_some();
        let admitted = registered && kind.allows_registrants();
        use OutServiceAction as Action;
        match Action::from_code(out.action) {
            None | Some(Action::ReplaceLostReservation) => true,
            Some(Action::Register | Action::RegisterAndIgnoreExistingKey) => false,
            Some(Action::Reserve | Action::RegisterAndMove) => {
                !admitted && !self.bypasses_reservation(out)
            }
            Some(Action::Release | Action::Clear | Action::Preempt | Action::PreemptAndAbort) => {
                !registered && !self.bypasses_reservation(out)
            }
        }
    }

    /// Returns whether LIO lets the command pass because it has no data: LIO does not consider such
    /// a command a write, and a Write Exclusive reservation allows it.
    pub(super) fn bypasses_reservation(&self, out: &Out) -> bool {
        let kind = self.model.kind();
        out.length() == 0
            && self.own_key().is_none()
            && kind.is_some_and(ReservationType::is_write_exclusive)
    }
}

/// Returns the error that LIO finds in the length of a list, or in `SPEC_I_PT`, before it looks at
/// the service action.
pub(super) fn form_error(out: &Out) -> Option<AdditionalSense> {
    let length = out.length();
    let moves = out.action == OutServiceAction::RegisterAndMove.code();
    let registers = out.action == OutServiceAction::Register.code();
    let spec_i_pt = out.flags() & SPEC_I_PT != 0;
    if length < HEADER {
        Some(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR)
    } else if moves || registers && spec_i_pt {
        None
    } else if spec_i_pt {
        Some(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST)
    } else if length != HEADER {
        Some(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR)
    } else {
        None
    }
}

pub(super) fn has_all_tg_pt(out: &Out) -> bool {
    out.flags() & ALL_TG_PT != 0
}

/// Returns the length of the TransportIDs according to the list, and the bytes that follow.
pub(super) fn transport_ids(out: &Out) -> Option<(usize, Vec<u8>)> {
    let list = out.list();
    let (field, ids) = match out.action == OutServiceAction::RegisterAndMove.code() {
        true => (20, HEADER),
        false => (HEADER, HEADER + 4),
    };
    let declared = list.get(field..field + 4)?.try_into().ok()?;
    let declared = usize::try_from(u32::from_be_bytes(declared)).ok()?;
    Some((declared, list.get(ids..)?.to_vec()))
}
