// SPDX-License-Identifier: MIT OR Apache-2.0

//! REGISTER and REGISTER AND IGNORE EXISTING KEY.
//!
//! Source: SPC-4, 5.12, registering (its two tables of register behaviors) and unregistering;
//! 6.16.3 for the flags.

use scsi_pr::{BasicParameterList, TransportId};

use super::CommandContext;
use crate::nexus::NexusId;
use crate::response::CommandError;
use crate::state::{Registration, UnitAttention};

/// REGISTER. A wrong RESERVATION KEY is a RESERVATION CONFLICT.
pub(super) fn register(
    context: &mut CommandContext<'_>,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    let state = &*context.state;
    // An unregistered nexus sends the key zero.
    let key_matches = |nexus| state.key(nexus).unwrap_or_default() == list.reservation_key;
    if !key_matches(context.sender) {
        return Err(CommandError::Conflict);
    }
    // Check the flags before the other nexuses' keys: the flag that selects these nexuses may be
    // the unsupported one.
    context.features.check(list)?;
    let mut affected = affected_nexuses(context, list);
    if !affected.iter().all(|nexus| key_matches(*nexus)) {
        return Err(CommandError::Conflict);
    }
    if let Some(names) = &list.spec_i_pt {
        if state.is_registered(context.sender) {
            return Err(CommandError::INVALID_PARAMETER_LIST);
        }
        if !list.service_action_reservation_key.is_zero() {
            affected.extend(specified_nexuses(context, list.all_tg_pt, names)?);
        }
    }
    apply(context, &affected, list);
    Ok(())
}

/// REGISTER AND IGNORE EXISTING KEY, which ignores RESERVATION KEY.
pub(super) fn register_and_ignore_existing_key(
    context: &mut CommandContext<'_>,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    context.features.check(list)?;
    let affected = affected_nexuses(context, list);
    apply(context, &affected, list);
    Ok(())
}

/// Returns the sender, or with `ALL_TG_PT` all nexuses of its initiator port: the command has the
/// effect of one command through each target port (SPC-4, 6.16.3).
fn affected_nexuses(context: &CommandContext<'_>, list: &BasicParameterList) -> Vec<NexusId> {
    match list.all_tg_pt {
        true => context.nexuses.same_initiator(context.sender),
        false => vec![context.sender],
    }
}

/// Returns the unregistered nexuses that the TransportIDs of `SPEC_I_PT` name (SPC-4, 6.16.3). If
/// one name is unknown, the command fails and registers no nexus.
fn specified_nexuses(
    context: &CommandContext<'_>,
    all_tg_pt: bool,
    names: &[TransportId],
) -> Result<Vec<NexusId>, CommandError> {
    let sender = context.nexuses.get(context.sender).filter(|_| !all_tg_pt);
    let port = sender.map(|nexus| nexus.target_port);
    let mut specified = Vec::new();
    for name in names {
        let named = context.nexuses.specified_by(name, port);
        if named.is_empty() {
            return Err(CommandError::INVALID_PARAMETER_LIST);
        }
        specified.extend(named);
    }
    specified.retain(|nexus| !context.state.is_registered(*nexus));
    Ok(specified)
}

/// Registers keys, or with the key zero removes registrations.
fn apply(context: &mut CommandContext<'_>, affected: &[NexusId], list: &BasicParameterList) {
    let key = list.service_action_reservation_key;
    let state = &mut *context.state;
    if !key.is_zero() {
        for nexus in affected {
            state.register(Registration {
                nexus: *nexus,
                key,
                all_tg_pt: list.all_tg_pt,
            });
        }
    } else if affected.iter().any(|nexus| state.is_registered(*nexus)) {
        unregister(context, affected);
    } else {
        return; // "Do nothing except return GOOD status."
    }
    context.state.aptpl = list.aptpl;
    context.state.bump_generation();
}

/// Removes registrations. The reservation is released with the registration of its single holder,
/// or with the last of all registrants. If its type is a registrants only type, the other
/// registrants are notified (SPC-4, 5.12, unregistering).
fn unregister(context: &mut CommandContext<'_>, affected: &[NexusId]) {
    let (state, sender) = (&mut *context.state, context.sender);
    let before = state.reservation;
    state.unregister(|registration| affected.contains(&registration.nexus));
    let released = before.filter(|_| state.reservation.is_none());
    if released.is_some_and(|reservation| reservation.kind().is_registrants_only()) {
        state.notify_other_registrants(sender, UnitAttention::ReservationsReleased);
    }
}
