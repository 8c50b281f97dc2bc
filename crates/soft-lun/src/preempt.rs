//! PREEMPT and PREEMPT AND ABORT.
//!
//! Source: SPC-4, 5.12, preempting (its table of preempting actions), preempting persistent
//! reservations and registration handling, and removing registrations.

use scsi_pr::{BasicParameterList, ReservationKey, ReservationType, ScopeType};

use crate::answer::CommandError;
use crate::attention::UnitAttention;
use crate::nexus::NexusId;
use crate::state::{Registration, Reservation, State};
use crate::supported::SupportedFeatures;

/// Takes over the reservation of whoever has the key, or removes the registrations with it.
///
/// # Errors
///
/// [`Refusal`]: the key is not the sender's, nobody has the other one, or there is no such type.
pub(crate) fn preempt(
    state: &mut State,
    supported: &SupportedFeatures,
    sender: NexusId,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    state.check_key(sender, list.reservation_key)?;
    let victim = list.service_action_reservation_key;
    let held = state.reservation();
    let all_registrants = held.is_some_and(|held| held.kind().is_all_registrants());
    let kind = || supported.kind_to_reserve(scope_type);
    match victim.is_zero() {
        true if all_registrants => take_over(state, sender, kind()?, |_| true),
        true => return Err(CommandError::PARAMETER_LIST),
        false if state.holder_key() == Some(victim) => {
            take_over(state, sender, kind()?, |one| one.key == victim);
        }
        false => remove_registrations(state, sender, victim)?,
    }
    state.bump_generation();
    Ok(())
}

/// Preempting persistent reservations and registration handling: the sender keeps its registration,
/// also if it preempts itself, and holds the new reservation.
fn take_over(
    state: &mut State,
    sender: NexusId,
    kind: ReservationType,
    victims: impl Fn(&Registration) -> bool,
) {
    let before = state.reservation().map(|reservation| reservation.kind());
    let removed = state.unregister(|one| one.nexus != sender && victims(one));
    state.reserve(Reservation::new(kind, sender));
    if before != Some(kind) {
        state.notify_other_registrants(sender, UnitAttention::ReservationsReleased);
    }
    for nexus in removed.nexuses {
        state.establish(UnitAttention::RegistrationsPreempted, nexus);
    }
}

/// Removing registrations: scope and type are ignored. The sender loses its own as well if that is the
/// key, and is not told. An all registrants reservation goes with the last of them.
///
/// # Errors
///
/// [`Refusal::Conflict`]: nobody is registered with this key.
fn remove_registrations(
    state: &mut State,
    sender: NexusId,
    victim: ReservationKey,
) -> Result<(), CommandError> {
    let removed = state.unregister(|one| one.key == victim);
    if removed.nexuses.is_empty() {
        return Err(CommandError::Conflict);
    }
    for nexus in removed.nexuses {
        if nexus != sender {
            state.establish(UnitAttention::RegistrationsPreempted, nexus);
        }
    }
    Ok(())
}
