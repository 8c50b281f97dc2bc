//! Departures in what is checked, in which order, and how it is refused.

use scsi_pr::{AdditionalSense, OutServiceAction as Action, ReservationType, SenseKey};

use super::situation::{Situation, form_error, transport_ids};
use crate::command::{HEADER, Out, SPEC_I_PT};
use crate::model::{Outcome, check_condition, good};

const SCOPE: u8 = 0xf0;
const TYPE: u8 = 0x0f;

/// Bytes of a SAS TransportID, and where its FORMAT CODE is.
const SAS_LENGTH: usize = 24;
const FORMAT_CODE: u8 = 0xc0;

fn is_unknown(out: &Out) -> bool {
    matches!(
        Action::from_code(out.action),
        None | Some(Action::ReplaceLostReservation)
    )
}

pub(super) fn unknown_action_conflicts(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.out().filter(|out| is_unknown(out))?;
    s.is_blocked(out).then(|| s.conflict())?
}

pub(super) fn unknown_action_last(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.out().filter(|out| is_unknown(out))?;
    (!s.is_blocked(out)).then(|| s.illegal(form_error(out)?))?
}

pub(super) fn no_list_no_conflict(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.out().filter(|out| s.passes_without_list(out))?;
    (!s.is_blocked(out)).then(|| s.illegal(form_error(out)?))?
}

pub(super) fn list_before_conflict(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.out()?;
    let moves = out.action == Action::RegisterAndMove.code();
    if !moves && out.action != Action::Reserve.code() || s.is_blocked(out) {
        return None;
    }
    if let Some(code) = form_error(out) {
        return s.illegal(code);
    }
    let wrong = moves && s.own_key() == Some(out.key) && !s.has_destination(out);
    wrong.then(|| s.illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST))?
}

pub(super) fn reserved_type_first(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&[Action::Reserve, Action::Preempt, Action::PreemptAndAbort])?;
    let known = ReservationType::from_code(out.scope_type & TYPE).is_some();
    (!known).then(|| s.illegal(AdditionalSense::INVALID_FIELD_IN_CDB))?
}

pub(super) fn unregistered_sender(s: &Situation<'_>) -> Option<Outcome> {
    s.reaches(&[
        Action::Reserve,
        Action::Release,
        Action::Clear,
        Action::RegisterAndMove,
    ])?;
    let failure = check_condition(
        SenseKey::NotReady,
        AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
    );
    s.own_key().is_none().then(|| s.answer(failure))?
}

pub(super) fn scope_in_list(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches_with_key(&[Action::Reserve, Action::Preempt, Action::PreemptAndAbort])?;
    let wrong = out.scope_type & SCOPE != 0;
    wrong.then(|| s.illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST))?
}

pub(super) fn key_of_release(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&[Action::Release])?;
    let own = s.own_key()?;
    (own != out.key && !s.is_holder()).then(|| s.answer(good(Vec::new())))?
}

pub(super) fn release_of_another_type(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches_with_key(&[Action::Release])?;
    let other = s.model.kind()?.code() != out.scope_type;
    (s.is_holder() && other).then(|| s.conflict())?
}

pub(super) fn keys_before_transport_ids(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&[Action::Register, Action::RegisterAndMove])?;
    if out.action == Action::Register.code() && out.flags() & SPEC_I_PT == 0 {
        return None;
    }
    match s.own_key().unwrap_or(0) {
        own if own != out.key => s.conflict(),
        // An unregistered nexus that wants no key.
        0 if out.action_key == 0 => s.answer(good(Vec::new())),
        _ => None,
    }
}

pub(super) fn bytes_after_transport_ids(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&[Action::Register, Action::RegisterAndMove])?;
    if out.action == Action::Register.code() && out.flags() & SPEC_I_PT == 0 {
        return None;
    }
    let (declared, given) = transport_ids(out)?;
    (declared < given.len()).then(|| s.illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST))?
}

pub(super) fn format_code_ignored(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&[Action::Register, Action::RegisterAndMove])?;
    let mut plain = out.clone();
    let start = match out.action == Action::Register.code() {
        true if out.flags() & SPEC_I_PT != 0 => 4,
        true => return None,
        false => 0,
    };
    for id in plain.tail.get_mut(start..)?.chunks_exact_mut(SAS_LENGTH) {
        if id[0] & TYPE == 6 {
            id[0] &= !FORMAT_CODE;
        }
    }
    (plain != *out).then(|| s.outcome_of(plain))
}

pub(super) fn long_transport_id(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&[Action::RegisterAndMove])?;
    let (declared, given) = transport_ids(out)?;
    let mut short = out.clone();
    short.tail = given.get(..SAS_LENGTH)?.to_vec();
    short.rest[4..8].copy_from_slice(&u32::try_from(SAS_LENGTH).unwrap().to_be_bytes());
    short.length = None;
    (declared == given.len() && declared > SAS_LENGTH).then(|| s.outcome_of(short))
}

impl Situation<'_> {
    /// Whether a REGISTER AND MOVE has all that LIO wants of its parameters.
    pub(super) fn has_destination(&self, out: &Out) -> bool {
        let other = self.side().other();
        let list = out.list();
        let id = list.get(HEADER..HEADER + SAS_LENGTH);
        let named =
            id.is_some_and(|id| id[0] & TYPE == 6 && id[4..12] == other.address().to_be_bytes());
        let exact = transport_ids(out).is_some_and(|(declared, given)| declared == given.len());
        named && exact && out.action_key != 0 && out.rest[2..4] == other.port().to_be_bytes()
    }
}
