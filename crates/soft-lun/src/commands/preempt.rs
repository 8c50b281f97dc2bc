// SPDX-License-Identifier: MIT OR Apache-2.0

//! PREEMPT and PREEMPT AND ABORT.
//!
//! Source: SPC-4, 5.12, preempting (its table of preempting actions), preempting persistent
//! reservations and registration handling, and removing registrations.

use scsi_pr::{BasicParameterList, ReservationKey, ReservationType, ScopeType};

use super::CommandContext;
use crate::response::CommandError;
use crate::state::{Registration, Reservation, UnitAttention};

/// Takes over the reservation if the victim's key is that of the holder; otherwise removes the
/// registrations with that key.
pub(super) fn preempt(
    context: &mut CommandContext<'_>,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    context.check_key(list.reservation_key)?;
    let victim = list.service_action_reservation_key;
    let held = context.state.reservation;
    let all_registrants = held.is_some_and(|held| held.kind().is_all_registrants());
    let features = context.features;
    let kind = || features.check_type(scope_type);
    match victim.is_zero() {
        true if all_registrants => take_over(context, kind()?, |_| true),
        true => return Err(CommandError::INVALID_PARAMETER_LIST),
        false if context.state.holder_key() == Some(victim) => {
            take_over(context, kind()?, |one| one.key == victim);
        }
        false => remove_registrations(context, victim)?,
    }
    context.state.bump_generation();
    Ok(())
}

/// Preempting persistent reservations and registration handling: the sender holds the new
/// reservation. It keeps its registration, even if it preempts its own key.
fn take_over(
    context: &mut CommandContext<'_>,
    kind: ReservationType,
    victims: impl Fn(&Registration) -> bool,
) {
    let (state, sender) = (&mut *context.state, context.sender);
    let before = state.reservation.map(|reservation| reservation.kind());
    let removed = state.unregister(|one| one.nexus != sender && victims(one));
    state.reservation = Some(Reservation::new(kind, sender));
    if before != Some(kind) {
        state.notify_other_registrants(sender, UnitAttention::ReservationsReleased);
    }
    for nexus in removed {
        state.establish(UnitAttention::RegistrationsPreempted, nexus);
    }
}

/// Removing registrations: scope and type are ignored. A sender with the victim's key loses its
/// own registration too, without a unit attention. An all registrants reservation is released
/// with the last registration. A key without registrations is a RESERVATION CONFLICT.
fn remove_registrations(
    context: &mut CommandContext<'_>,
    victim: ReservationKey,
) -> Result<(), CommandError> {
    let removed = context.state.unregister(|one| one.key == victim);
    if removed.is_empty() {
        return Err(CommandError::Conflict);
    }
    let sender = context.sender;
    for nexus in removed.into_iter().filter(|nexus| *nexus != sender) {
        context
            .state
            .establish(UnitAttention::RegistrationsPreempted, nexus);
    }
    Ok(())
}
