// SPDX-License-Identifier: MIT OR Apache-2.0

//! REGISTER AND MOVE.
//!
//! Source: SPC-4, 5.12, registering and moving the reservation; 6.16.4 for the fields.

use scsi_pr::{RegisterAndMove, RelativeTargetPort, TransportId};

use super::CommandContext;
use crate::nexus::{Nexus, NexusId, is_device};
use crate::response::CommandError;
use crate::state::{Registration, Reservation};

/// Registers another nexus, or replaces its registration, and moves the reservation to it.
/// Establishes no unit attentions.
pub(super) fn register_and_move(
    context: &mut CommandContext<'_>,
    list: RegisterAndMove,
) -> Result<(), CommandError> {
    context.check_key(list.reservation_key)?;
    let sender = context.sender;
    let held = context.state.reservation;
    // The sender must be the single holder: an all registrants reservation cannot be moved.
    if held.is_some_and(|held| held.holder() != Some(sender)) {
        return Err(CommandError::Conflict);
    }
    context.features.check_aptpl(list.aptpl)?;
    let key = list.service_action_reservation_key;
    let destination = destination(context, list.transport_id, list.relative_target_port);
    let nexus = destination
        .filter(|_| !key.is_zero())
        .ok_or(CommandError::INVALID_PARAMETER_LIST)?;
    let held = held.ok_or(CommandError::INVALID_CDB)?;
    let state = &mut *context.state;
    state.register(Registration {
        nexus,
        key,
        all_tg_pt: false,
    });
    state.reservation = Some(Reservation::new(held.kind(), nexus));
    if list.unregister {
        state.unregister(|registration| registration.nexus == sender);
    }
    state.aptpl = list.aptpl;
    state.bump_generation();
    Ok(())
}

/// Returns the nexus that the parameter list names. `None` if the unit does not have it, if it
/// belongs to the sender's initiator port, or if the TransportID names an iSCSI initiator device
/// (SPC-4, 7.6.4.6).
fn destination(
    context: &CommandContext<'_>,
    initiator: TransportId,
    target_port: RelativeTargetPort,
) -> Option<NexusId> {
    let sender = context.nexuses.get(context.sender);
    if is_device(&initiator) || sender.is_some_and(|sender| sender.initiator == initiator) {
        return None;
    }
    context.nexuses.find(&Nexus {
        initiator,
        target_port,
    })
}
