// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deviations in the effects of a successful command.

use scsi_pr::{AdditionalSense, OutServiceAction as Action, PrGeneration, ReservationType, Status};
use soft_lun::{NexusId, Reservation, Snapshot, UnitAttention};

use super::case::{Case, has_all_tg_pt};
use crate::command::SPEC_I_PT;
use crate::model::{Model, Outcome, conflict, good};

/// The service actions that register or unregister the sender.
const REGISTERS: [Action; 2] = [Action::Register, Action::RegisterAndIgnoreExistingKey];

/// Returns the outcome in soft-lun if the command succeeds.
fn successful_outcome(case: &Case<'_>) -> Option<Outcome> {
    let outcome = case.soft_lun_outcome();
    (outcome.response.status == Status::GOOD).then_some(outcome)
}

/// Removes the registrations with a key except the sender's, and notifies their nexuses.
fn remove_others(unit: &mut Snapshot, victim: u64, sender: NexusId) {
    let registrations = &mut unit.registrations;
    let removed =
        registrations.extract_if(.., |one| one.key.get() == victim && one.nexus != sender);
    let removed: Vec<_> = removed.map(|one| one.nexus).collect();
    for nexus in removed {
        establish(unit, nexus, UnitAttention::RegistrationsPreempted);
    }
}

/// Notifies every registrant except the sender that the reservation was released.
fn notify_released(unit: &mut Snapshot, sender: NexusId) {
    let others: Vec<_> = unit.registrations.iter().map(|one| one.nexus).collect();
    for nexus in others.into_iter().filter(|nexus| *nexus != sender) {
        establish(unit, nexus, UnitAttention::ReservationsReleased);
    }
}

/// Establishes a unit attention, unless it is pending already.
fn establish(unit: &mut Snapshot, nexus: NexusId, attention: UnitAttention) {
    if !unit.unit_attentions.contains(&(nexus, attention)) {
        unit.unit_attentions.push((nexus, attention));
    }
}

pub(super) fn unit_attentions_dropped(case: &Case<'_>) -> Option<Outcome> {
    if case.unit_attentions().len() < 2 {
        return None;
    }
    let sender = case.model.id(case.node());
    let mut outcome = case.soft_lun_outcome();
    outcome.model = outcome
        .model
        .with_snapshot(|unit| unit.unit_attentions.retain(|(nexus, _)| *nexus != sender));
    Some(outcome)
}

pub(super) fn all_tg_pt_again(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&REGISTERS)?;
    let known = out.action != Action::Register.code() || case.own_key() == Some(out.key);
    let rejected = case.model.all_tg_pt(case.node()) && !has_all_tg_pt(out);
    // LIO detects SPEC_I_PT of a registered nexus first.
    let wrong = out.flags() & SPEC_I_PT != 0;
    (known && rejected && !wrong).then(|| case.illegal(AdditionalSense::INVALID_FIELD_IN_CDB))?
}

pub(super) fn all_tg_pt_kept(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&REGISTERS)?;
    let sender = case.model.id(case.node());
    if case.own_key().is_none() || out.action_key == 0 {
        return None;
    }
    let before = case.model.all_tg_pt(case.node());
    let mut outcome = successful_outcome(case)?;
    outcome.model = outcome.model.with_snapshot(|unit| {
        let registrations = unit.registrations.iter_mut();
        let own = registrations.filter(|one| one.nexus == sender);
        own.for_each(|one| one.all_tg_pt = before);
    });
    Some(outcome)
}

pub(super) fn unregistering_not_counted(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks(&REGISTERS)?;
    if out.action_key != 0 || case.own_key().is_none() {
        return None;
    }
    let mut outcome = successful_outcome(case)?;
    let generation = case.model.unit.generation();
    outcome.model = outcome
        .model
        .with_snapshot(|unit| unit.generation = generation);
    Some(outcome)
}

pub(super) fn each_name_counted(case: &Case<'_>) -> Option<Outcome> {
    case.passes_checks(&[Action::Register])?;
    let mut outcome = successful_outcome(case)?;
    let count = |model: &Model| model.unit.registrations().len();
    let made = count(&outcome.model).saturating_sub(count(case.model));
    let generation = (0..made).fold(case.model.unit.generation(), |one: PrGeneration, _| {
        one.next()
    });
    (made > 1).then(|| {
        outcome.model = outcome
            .model
            .with_snapshot(|unit| unit.generation = generation);
        outcome
    })
}

pub(super) fn clear_ends_aptpl(case: &Case<'_>) -> Option<Outcome> {
    case.passes_checks(&[Action::Clear])?;
    let mut outcome = successful_outcome(case)?;
    outcome.model = outcome.model.with_snapshot(|unit| unit.aptpl = false);
    Some(outcome)
}

pub(super) fn preempts_itself(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks_with_key(&[Action::Preempt])?;
    let victim = out.action_key;
    let nominal_holder = case.model.key(case.model.nominal_holder?)?;
    if victim != out.key || nominal_holder == victim {
        return None;
    }
    let sender = case.model.id(case.node());
    let mut model = case.model.with_snapshot(|unit| {
        unit.generation = unit.generation.next();
        remove_others(unit, victim, sender);
    });
    model.update_lio_state(case.model, case.step);
    Some(Outcome {
        response: good(Vec::new()),
        model,
    })
}

pub(super) fn preempts_the_one(case: &Case<'_>) -> Option<Outcome> {
    let out = case.passes_checks_with_key(&[Action::Preempt])?;
    let victim = out.action_key;
    if case.model.key(case.model.nominal_holder?)? != victim {
        return None;
    }
    let kind = ReservationType::from_code(out.scope_type)?;
    let sender = case.model.id(case.node());
    let changed = case.model.kind() != Some(kind);
    let mut model = case.model.with_snapshot(|unit| {
        unit.generation = unit.generation.next();
        unit.reservation = Some(Reservation::new(kind, sender));
        remove_others(unit, victim, sender);
        if changed {
            notify_released(unit, sender);
        }
    });
    model.update_lio_state(case.model, case.step);
    Some(Outcome {
        response: good(Vec::new()),
        model,
    })
}

pub(super) fn moved_registration_kept(case: &Case<'_>) -> Option<Outcome> {
    case.passes_checks(&[Action::RegisterAndMove])?;
    let other = case.node().other();
    let id = case.model.id(other);
    let kept = case
        .model
        .unit
        .registrations()
        .iter()
        .find(|one| one.nexus == id)?;
    let mut outcome = successful_outcome(case)?;
    outcome.model = outcome.model.with_snapshot(|unit| {
        let moved = unit.registrations.iter_mut().filter(|one| one.nexus == id);
        moved.for_each(|one| one.all_tg_pt = kept.all_tg_pt);
    });
    Some(outcome)
}

pub(super) fn scope_after_move(case: &Case<'_>) -> Option<Outcome> {
    let holder = case.model.lio_holder()?;
    if !case.model.corrupt_scopes.contains(&holder) {
        return None;
    }
    if holder == case.node()
        && case
            .passes_checks_with_key(&[Action::Reserve, Action::Release])
            .is_some()
    {
        return case.respond(conflict());
    }
    // LIO sees a change of the scope, and notifies the nexuses that keep their registration.
    let out = case.passes_checks_with_key(&[Action::Preempt])?;
    let mut outcome = successful_outcome(case)?;
    (case.model.key(holder)? == out.action_key).then(|| {
        let sender = case.model.id(case.node());
        outcome.model = outcome
            .model
            .with_snapshot(|unit| notify_released(unit, sender));
        outcome
    })
}
