// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deviations in the checks, in their order, and in the reported errors.

use scsi_pr::{AdditionalSense, OutServiceAction as Action, ReservationType, SenseKey};

use super::case::{Case, form_error, transport_ids};
use crate::command::{HEADER, Out, SPEC_I_PT};
use crate::kernel::Kernel;
use crate::model::{Outcome, check_condition, good};

const SCOPE: u8 = 0xf0;
const TYPE: u8 = 0x0f;

/// Length of a SAS TransportID in bytes, and the bits of its FORMAT CODE.
const SAS_LENGTH: usize = 24;
const FORMAT_CODE: u8 = 0xc0;

fn is_unknown(out: &Out) -> bool {
    matches!(
        Action::from_code(out.action),
        None | Some(Action::ReplaceLostReservation)
    )
}

pub(super) fn unknown_action_conflicts(case: &Case<'_>) -> Option<Outcome> {
    let out = case.reserve_out().filter(|out| is_unknown(out))?;
    case.conflicts(out).then(|| case.conflict())?
}

pub(super) fn unknown_action_last(case: &Case<'_>) -> Option<Outcome> {
    let out = case.reserve_out().filter(|out| is_unknown(out))?;
    (!case.conflicts(out)).then(|| case.illegal(form_error(out)?))?
}

pub(super) fn no_list_no_conflict(case: &Case<'_>) -> Option<Outcome> {
    let out = case
        .reserve_out()
        .filter(|out| case.bypasses_reservation(out))?;
    (!case.conflicts(out)).then(|| case.illegal(form_error(out)?))?
}

pub(super) fn list_before_conflict(case: &Case<'_>) -> Option<Outcome> {
    let out = case.reserve_out()?;
    let moves = out.action == Action::RegisterAndMove.code();
    if !moves && out.action != Action::Reserve.code() || case.conflicts(out) {
        return None;
    }
    if let Some(code) = form_error(out) {
        return case.illegal(code);
    }
    let wrong = moves && case.own_key() == Some(out.key) && !case.has_destination(out);
    wrong.then(|| case.illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST))?
}

pub(super) fn reserved_type_first(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&[Action::Reserve, Action::Preempt, Action::PreemptAndAbort])?;
    let known = ReservationType::from_code(out.scope_type & TYPE).is_some();
    (!known && case.needs_type(out)).then(|| case.illegal(AdditionalSense::INVALID_FIELD_IN_CDB))?
}

pub(super) fn unregistered_sender(case: &Case<'_>) -> Option<Outcome> {
    case.passes_checks(&[
        Action::Reserve,
        Action::Release,
        Action::Clear,
        Action::RegisterAndMove,
    ])?;
    let failure = check_condition(
        SenseKey::NotReady,
        AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
    );
    case.own_key().is_none().then(|| case.respond(failure))?
}

pub(super) fn scope_in_list(case: &Case<'_>) -> Option<Outcome> {
    let out =
        case.passes_checks_with_key(&[Action::Reserve, Action::Preempt, Action::PreemptAndAbort])?;
    let wrong = out.scope_type & SCOPE != 0;
    (wrong && case.needs_type(out))
        .then(|| case.illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST))?
}

pub(super) fn key_of_release(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&[Action::Release])?;
    let own = case.own_key()?;
    (own != out.key && !case.is_holder()).then(|| case.respond(good(Vec::new())))?
}

pub(super) fn release_of_another_type(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks_with_key(&[Action::Release])?;
    let other = case.model.kind()?.code() != out.scope_type;
    (case.is_holder() && other).then(|| case.conflict())?
}

pub(super) fn keys_before_transport_ids(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&[Action::Register, Action::RegisterAndMove])?;
    if out.action == Action::Register.code() && out.flags() & SPEC_I_PT == 0 {
        return None;
    }
    match case.own_key().unwrap_or(0) {
        own if own != out.key => case.conflict(),
        // An unregistered nexus registers the key zero.
        0 if out.action_key == 0 => case.respond(good(Vec::new())),
        _ => None,
    }
}

pub(super) fn bytes_after_transport_ids(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&[Action::Register, Action::RegisterAndMove])?;
    if out.action == Action::Register.code() && out.flags() & SPEC_I_PT == 0 {
        return None;
    }
    let (declared, given) = transport_ids(out)?;
    (declared < given.len())
        .then(|| case.illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST))?
}

pub(super) fn format_code_ignored(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&[Action::Register, Action::RegisterAndMove])?;
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
    (plain != *out).then(|| case.lio_outcome_of(plain))
}

pub(super) fn long_transport_id(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&[Action::RegisterAndMove])?;
    let (declared, given) = transport_ids(out)?;
    let mut short = out.clone();
    short.tail = given.get(..SAS_LENGTH)?.to_vec();
    short.rest[4..8].copy_from_slice(&u32::try_from(SAS_LENGTH).unwrap().to_be_bytes());
    short.length = None;
    (declared == given.len() && declared > SAS_LENGTH).then(|| case.lio_outcome_of(short))
}

impl Case<'_> {
    /// Returns whether LIO checks scope and type of a RESERVE or PREEMPT. Since Linux 7.1, LIO
    /// ignores them in a PREEMPT that only removes registrations, and checks the key before them.
    fn needs_type(&self, out: &Out) -> bool {
        if out.action == Action::Reserve.code() || self.model.kernel < Kernel::V7_1 {
            return true;
        }
        let holder = self
            .model
            .lio_holder()
            .and_then(|node| self.model.key(node));
        let all = self.model.all_registrants() && out.action_key == 0;
        self.own_key() == Some(out.key) && (all || holder == Some(out.action_key))
    }

    /// Returns whether a REGISTER AND MOVE has the parameters that LIO requires.
    pub(super) fn has_destination(&self, out: &Out) -> bool {
        let other = self.node().other();
        let list = out.list();
        let id = list.get(HEADER..HEADER + SAS_LENGTH);
        let named =
            id.is_some_and(|id| id[0] & TYPE == 6 && id[4..12] == other.address().to_be_bytes());
        let exact = transport_ids(out).is_some_and(|(declared, given)| declared == given.len());
        named && exact && out.action_key != 0 && out.rest[2..4] == other.port().to_be_bytes()
    }
}
