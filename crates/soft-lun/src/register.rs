//! REGISTER and REGISTER AND IGNORE EXISTING KEY.
//!
//! Source: SPC-4, 5.12, registering (its two tables of register behaviours) and unregistering; 6.16.3
//! for the flags.

use scsi_pr::{BasicParameterList, TransportId};

use crate::answer::CommandError;
use crate::attention::UnitAttention;
use crate::nexus::{NexusId, Nexuses};
use crate::state::{Registration, State};
use crate::supported::SupportedFeatures;

/// REGISTER.
///
/// # Errors
///
/// [`Refusal`]: the key is not that of the sender, or the list is not for it.
pub(crate) fn register(
    state: &mut State,
    nexuses: &Nexuses,
    supported: &SupportedFeatures,
    sender: NexusId,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    // One that is not registered says so by the key zero.
    let known = |nexus| state.key_of(nexus).unwrap_or_default() == list.reservation_key;
    if !known(sender) {
        return Err(CommandError::Conflict);
    }
    // Before the others are looked at: which those are may be what is not supported.
    supported.check(list)?;
    let mut affected = affected(nexuses, sender, list);
    if !affected.iter().all(|nexus| known(*nexus)) {
        return Err(CommandError::Conflict);
    }
    if let Some(names) = &list.spec_i_pt {
        if state.is_registered(sender) {
            return Err(CommandError::PARAMETER_LIST);
        }
        if !list.service_action_reservation_key.is_zero() {
            affected.extend(specified(state, nexuses, sender, list.all_tg_pt, names)?);
        }
    }
    apply(state, sender, &affected, list);
    Ok(())
}

/// REGISTER AND IGNORE EXISTING KEY: RESERVATION KEY does not matter.
///
/// # Errors
///
/// [`Refusal`]: the unit does not support what the list asks for.
pub(crate) fn register_and_ignore(
    state: &mut State,
    nexuses: &Nexuses,
    supported: &SupportedFeatures,
    sender: NexusId,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    supported.check(list)?;
    apply(state, sender, &affected(nexuses, sender, list), list);
    Ok(())
}

/// SPC-4, 6.16.3, `ALL_TG_PT`: as if the command had come through each target port.
fn affected(nexuses: &Nexuses, sender: NexusId, list: &BasicParameterList) -> Vec<NexusId> {
    match list.all_tg_pt {
        true => nexuses.of_same_initiator(sender),
        false => vec![sender],
    }
}

/// SPC-4, 6.16.3, `SPEC_I_PT`: the unregistered nexuses that the list names. If one of them cannot
/// be registered, none is.
///
/// # Errors
///
/// [`Refusal::PARAMETER_LIST`]: there is no such initiator port.
fn specified(
    state: &State,
    nexuses: &Nexuses,
    sender: NexusId,
    all_tg_pt: bool,
    names: &[TransportId],
) -> Result<Vec<NexusId>, CommandError> {
    let port = nexuses.get(sender).map(|nexus| nexus.target_port);
    let mut specified = Vec::new();
    for name in names {
        let named = match port {
            Some(port) if !all_tg_pt => nexuses.named(name, port),
            _ => nexuses.named_anywhere(name),
        };
        if named.is_empty() {
            return Err(CommandError::PARAMETER_LIST);
        }
        specified.extend(named);
    }
    specified.retain(|nexus| !state.is_registered(*nexus));
    Ok(specified)
}

/// Registers, changes or removes keys.
fn apply(state: &mut State, sender: NexusId, affected: &[NexusId], list: &BasicParameterList) {
    let key = list.service_action_reservation_key;
    let nothing_to_remove = !affected.iter().any(|nexus| state.is_registered(*nexus));
    if key.is_zero() && nothing_to_remove {
        return; // "Do nothing except return GOOD status."
    }
    match key.is_zero() {
        true => unregister(state, sender, affected),
        false => affected.iter().for_each(|nexus| {
            state.register(Registration {
                nexus: *nexus,
                key,
                all_tg_pt: list.all_tg_pt,
            });
        }),
    }
    state.set_aptpl(list.aptpl);
    state.bump_generation();
}

/// SPC-4, 5.12, unregistering: the reservation goes with the registration of its one holder, or with
/// the last of all registrants. The other registrants are told if it was one of registrants only.
fn unregister(state: &mut State, sender: NexusId, affected: &[NexusId]) {
    let removed = state.unregister(|registration| affected.contains(&registration.nexus));
    let released = removed.reservation.map(|reservation| reservation.kind());
    if released.is_some_and(|kind| kind.is_registrants_only()) {
        state.notify_other_registrants(sender, UnitAttention::ReservationsReleased);
    }
}
