//! What a departure asks about the moment before a command.

use scsi_pr::{AdditionalSense, OutServiceAction, ReservationType};
use soft_lun::{Response, UnitAttention};

use super::predict;
use crate::command::{ALL_TG_PT, Command, HEADER, Out, SPEC_I_PT, Side, Step};
use crate::model::{Model, Outcome, conflict, illegal};

/// A unit, and a command that it gets.
pub(super) struct Situation<'a> {
    pub(super) model: &'a Model,
    pub(super) step: &'a Step,
}

impl Situation<'_> {
    pub(super) fn side(&self) -> Side {
        self.step.side
    }

    /// What soft-lun does.
    pub(super) fn standard(&self) -> Outcome {
        self.model.standard(self.step)
    }

    /// What LIO does with another command.
    pub(super) fn outcome_of(&self, out: Out) -> Outcome {
        let step = Step {
            side: self.side(),
            command: Command::Out(out),
        };
        predict(self.model, &step).outcome
    }

    pub(super) fn attentions(&self) -> &[UnitAttention] {
        self.model.unit.unit_attentions(self.model.id(self.side()))
    }

    /// The key that the sender is registered with.
    pub(super) fn own_key(&self) -> Option<u64> {
        self.model.key(self.side())
    }

    pub(super) fn is_holder(&self) -> bool {
        self.model.unit.is_holder(self.model.id(self.side()))
    }

    /// Nothing changes, and this is the answer.
    pub(super) fn answer(&self, answer: Response) -> Option<Outcome> {
        Some(self.model.answering(answer))
    }

    pub(super) fn illegal(&self, code: AdditionalSense) -> Option<Outcome> {
        self.answer(illegal(code))
    }

    pub(super) fn conflict(&self) -> Option<Outcome> {
        self.answer(conflict())
    }

    /// The command, if it is a PERSISTENT RESERVE IN.
    pub(super) fn question(&self) -> Option<(u8, usize)> {
        match self.step.command {
            Command::In { action, length } => Some((action, length.into())),
            _ => None,
        }
    }

    /// The command, if it is a PERSISTENT RESERVE OUT.
    pub(super) fn out(&self) -> Option<&Out> {
        match &self.step.command {
            Command::Out(out) => Some(out),
            _ => None,
        }
    }

    /// The command, if it has one of these service actions, and neither another's reservation nor the
    /// length of the list keeps it from being done in LIO.
    pub(super) fn reaches(&self, actions: &[OutServiceAction]) -> Option<&Out> {
        let out = self.out()?;
        let known = actions.iter().any(|action| action.code() == out.action);
        (known && !self.is_blocked(out) && form_error(out).is_none()).then_some(out)
    }

    /// The same for a sender that is registered and says its own key.
    pub(super) fn reaches_with_key(&self, actions: &[OutServiceAction]) -> Option<&Out> {
        self.reaches(actions)
            .filter(|out| self.own_key() == Some(out.key))
    }

    /// Whether LIO answers RESERVATION CONFLICT before it looks at the parameter list: its table of
    /// service actions that are allowed with a reservation that the sender does not hold. Of a
    /// reservation of all registrants it takes one for the holder.
    pub(super) fn is_blocked(&self, out: &Out) -> bool {
        let Some(kind) = self.model.kind() else {
            return false;
        };
        if self.model.lio_holder() == Some(self.side()) {
            return false;
        }
        let registered = self.own_key().is_some();
        let admitted = registered && kind.allows_registrants();
        use OutServiceAction as Action;
        match Action::from_code(out.action) {
            None | Some(Action::ReplaceLostReservation) => true,
            Some(Action::Register | Action::RegisterAndIgnoreExistingKey) => false,
            Some(Action::Reserve | Action::RegisterAndMove) => {
                !admitted && !self.passes_without_list(out)
            }
            Some(Action::Release | Action::Clear | Action::Preempt | Action::PreemptAndAbort) => {
                !registered && !self.passes_without_list(out)
            }
        }
    }

    /// A command without data is no write to LIO, and so allowed by a Write Exclusive reservation.
    pub(super) fn passes_without_list(&self, out: &Out) -> bool {
        let kind = self.model.kind();
        out.length() == 0
            && self.own_key().is_none()
            && kind.is_some_and(ReservationType::is_write_exclusive)
    }
}

/// What LIO finds wrong with the length of a list, or with `SPEC_I_PT` in it, before it looks at the
/// service action.
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

/// The length that a list says its TransportIDs have, and the bytes that are there.
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
