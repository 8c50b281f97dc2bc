// SPDX-License-Identifier: MIT OR Apache-2.0

//! RESERVE, RELEASE and CLEAR.
//!
//! Source: SPC-4, 5.12, reserving, releasing and clearing.

use scsi_pr::{BasicParameterList, ScopeType};

use super::CommandContext;
use crate::response::CommandError;
use crate::state::{Reservation, UnitAttention};

/// Makes a reservation. PRgeneration does not change (SPC-4, 6.16.2).
pub(super) fn reserve(
    context: &mut CommandContext<'_>,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    context.check_key(list.reservation_key)?;
    match context.state.reservation {
        None => {
            let kind = context.features.check_type(scope_type)?;
            let reservation = Reservation::new(kind, context.sender);
            context.state.reservation = Some(reservation);
            Ok(())
        }
        // A holder may repeat its own reservation only. `access::conflicts` has rejected the
        // command if the sender is not a holder.
        Some(held) if scope_type == held.kind().into() => Ok(()),
        Some(_) => Err(CommandError::Conflict),
    }
}

/// Releases the reservation. Registrations and PRgeneration do not change (SPC-4, 6.16.2).
pub(super) fn release(
    context: &mut CommandContext<'_>,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    context.check_key(list.reservation_key)?;
    let (state, sender) = (&mut *context.state, context.sender);
    let Some(held) = state.reservation.filter(|_| state.is_holder(sender)) else {
        // Not an error: a sender that is not a holder releases nothing.
        return Ok(());
    };
    if scope_type != held.kind().into() {
        return Err(CommandError::INVALID_RELEASE);
    }
    state.reservation = None;
    if held.kind().allows_registrants() {
        state.notify_other_registrants(sender, UnitAttention::ReservationsReleased);
    }
    Ok(())
}

/// Removes the reservation and all registrations, and notifies the other registrants.
pub(super) fn clear(
    context: &mut CommandContext<'_>,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    context.check_key(list.reservation_key)?;
    let (state, sender) = (&mut *context.state, context.sender);
    state.notify_other_registrants(sender, UnitAttention::ReservationsPreempted);
    state.unregister(|_| true);
    state.bump_generation();
    Ok(())
}
