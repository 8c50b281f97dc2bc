//! Departures in what a command that is done changes.

use scsi_pr::{AdditionalSense, OutServiceAction as Action, PrGeneration, ReservationType, Status};
use soft_lun::{NexusId, Reservation, Snapshot, UnitAttention};

use super::situation::{Situation, has_all_tg_pt};
use crate::command::SPEC_I_PT;
use crate::model::{Model, Outcome, conflict, good};

/// The service actions that register what the sender says.
const REGISTERS: [Action; 2] = [Action::Register, Action::RegisterAndIgnoreExistingKey];

/// What soft-lun does, if it does something.
fn done(s: &Situation<'_>) -> Option<Outcome> {
    let outcome = s.standard();
    (outcome.answer.status == Status::GOOD).then_some(outcome)
}

/// Removes the registrations with a key, but not the sender's, and tells those who had them.
fn remove_others(unit: &mut Snapshot, victim: u64, sender: NexusId) {
    let registrations = &mut unit.registrations;
    let gone = registrations.extract_if(.., |one| one.key.get() == victim && one.nexus != sender);
    let gone: Vec<_> = gone.map(|one| one.nexus).collect();
    for nexus in gone {
        tell(unit, nexus, UnitAttention::RegistrationsPreempted);
    }
}

/// Tells every registrant but the sender that the reservation was released.
fn tell_released(unit: &mut Snapshot, sender: NexusId) {
    let others: Vec<_> = unit.registrations.iter().map(|one| one.nexus).collect();
    for nexus in others.into_iter().filter(|nexus| *nexus != sender) {
        tell(unit, nexus, UnitAttention::ReservationsReleased);
    }
}

/// One that waits already is not established again.
fn tell(unit: &mut Snapshot, nexus: NexusId, attention: UnitAttention) {
    if !unit.unit_attentions.contains(&(nexus, attention)) {
        unit.unit_attentions.push((nexus, attention));
    }
}

pub(super) fn attentions_dropped(s: &Situation<'_>) -> Option<Outcome> {
    if s.attentions().len() < 2 {
        return None;
    }
    let me = s.model.id(s.side());
    let mut outcome = s.standard();
    outcome.model = outcome
        .model
        .edited(|unit| unit.unit_attentions.retain(|(nexus, _)| *nexus != me));
    Some(outcome)
}

pub(super) fn all_tg_pt_again(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&REGISTERS)?;
    let known = out.action != Action::Register.code() || s.own_key() == Some(out.key);
    let refused = s.model.all_tg_pt(s.side()) && !has_all_tg_pt(out);
    // SPEC_I_PT of a registered nexus is found first.
    let wrong = out.flags() & SPEC_I_PT != 0;
    (known && refused && !wrong).then(|| s.illegal(AdditionalSense::INVALID_FIELD_IN_CDB))?
}

pub(super) fn all_tg_pt_kept(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&REGISTERS)?;
    let me = s.model.id(s.side());
    if s.own_key().is_none() || out.action_key == 0 {
        return None;
    }
    let before = s.model.all_tg_pt(s.side());
    let mut outcome = done(s)?;
    outcome.model = outcome.model.edited(|unit| {
        let registrations = unit.registrations.iter_mut();
        let own = registrations.filter(|one| one.nexus == me);
        own.for_each(|one| one.all_tg_pt = before);
    });
    Some(outcome)
}

pub(super) fn unregistering_not_counted(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches(&REGISTERS)?;
    if out.action_key != 0 || s.own_key().is_none() {
        return None;
    }
    let mut outcome = done(s)?;
    let generation = s.model.unit.generation();
    outcome.model = outcome.model.edited(|unit| unit.generation = generation);
    Some(outcome)
}

pub(super) fn each_name_counted(s: &Situation<'_>) -> Option<Outcome> {
    s.reaches(&[Action::Register])?;
    let mut outcome = done(s)?;
    let count = |model: &Model| model.unit.registrations().len();
    let made = count(&outcome.model).saturating_sub(count(s.model));
    let generation = (0..made).fold(s.model.unit.generation(), |one: PrGeneration, _| one.next());
    (made > 1).then(|| {
        outcome.model = outcome.model.edited(|unit| unit.generation = generation);
        outcome
    })
}

pub(super) fn clear_ends_aptpl(s: &Situation<'_>) -> Option<Outcome> {
    s.reaches(&[Action::Clear])?;
    let mut outcome = done(s)?;
    outcome.model = outcome.model.edited(|unit| unit.aptpl = false);
    Some(outcome)
}

pub(super) fn preempts_itself(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches_with_key(&[Action::Preempt])?;
    let victim = out.action_key;
    let nominal = s.model.key(s.model.nominal?)?;
    if victim != out.key || nominal == victim {
        return None;
    }
    let me = s.model.id(s.side());
    let mut model = s.model.edited(|unit| {
        unit.generation = unit.generation.next();
        remove_others(unit, victim, me);
    });
    model.follow(s.model, s.step);
    Some(Outcome {
        answer: good(Vec::new()),
        model,
    })
}

pub(super) fn preempts_the_one(s: &Situation<'_>) -> Option<Outcome> {
    let out = s.reaches_with_key(&[Action::Preempt])?;
    let victim = out.action_key;
    if s.model.key(s.model.nominal?)? != victim {
        return None;
    }
    let kind = ReservationType::from_code(out.scope_type)?;
    let me = s.model.id(s.side());
    let changed = s.model.kind() != Some(kind);
    let mut model = s.model.edited(|unit| {
        unit.generation = unit.generation.next();
        unit.reservation = Some(Reservation::new(kind, me));
        remove_others(unit, victim, me);
        if changed {
            tell_released(unit, me);
        }
    });
    model.follow(s.model, s.step);
    Some(Outcome {
        answer: good(Vec::new()),
        model,
    })
}

pub(super) fn moved_registration_kept(s: &Situation<'_>) -> Option<Outcome> {
    s.reaches(&[Action::RegisterAndMove])?;
    let other = s.side().other();
    let id = s.model.id(other);
    let kept = s
        .model
        .unit
        .registrations()
        .iter()
        .find(|one| one.nexus == id)?;
    let mut outcome = done(s)?;
    outcome.model = outcome.model.edited(|unit| {
        let moved = unit.registrations.iter_mut().filter(|one| one.nexus == id);
        moved.for_each(|one| one.all_tg_pt = kept.all_tg_pt);
    });
    Some(outcome)
}

pub(super) fn scope_after_move(s: &Situation<'_>) -> Option<Outcome> {
    let holder = s.model.lio_holder()?;
    if !s.model.odd_scopes.contains(&holder) {
        return None;
    }
    if holder == s.side()
        && s.reaches_with_key(&[Action::Reserve, Action::Release])
            .is_some()
    {
        return s.answer(conflict());
    }
    // The scope changes, and so those are told that keep their registration.
    let out = s.reaches_with_key(&[Action::Preempt])?;
    let mut outcome = done(s)?;
    (s.model.key(holder)? == out.action_key).then(|| {
        let me = s.model.id(s.side());
        outcome.model = outcome.model.edited(|unit| tell_released(unit, me));
        outcome
    })
}
