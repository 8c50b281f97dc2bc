//! REGISTER AND MOVE.
//!
//! Source: SPC-4, 5.12, registering and moving the reservation; 6.16.4 for the fields.

use scsi_pr::RegisterAndMove;

use crate::answer::CommandError;
use crate::nexus::{Nexus, NexusId, Nexuses, is_device};
use crate::state::{Registration, Reservation, State};
use crate::supported::SupportedFeatures;

/// Registers another nexus, whatever it is registered with, and gives it the reservation. Nobody is
/// told.
///
/// # Errors
///
/// [`Refusal`]: the key is not the sender's, it holds nothing that can be moved, or the destination is
/// none.
pub(crate) fn register_and_move(
    state: &mut State,
    nexuses: &Nexuses,
    supported: &SupportedFeatures,
    sender: NexusId,
    list: RegisterAndMove,
) -> Result<(), CommandError> {
    state.check_key(sender, list.reservation_key)?;
    let held = state.reservation();
    // What all registrants hold cannot be moved, and nobody else's can either.
    if held.is_some_and(|held| held.holder() != Some(sender)) {
        return Err(CommandError::Conflict);
    }
    supported.check_aptpl(list.aptpl)?;
    let key = list.service_action_reservation_key;
    let destination = destination(
        nexuses,
        sender,
        list.transport_id,
        list.relative_target_port,
    );
    let nexus = destination
        .filter(|_| !key.is_zero())
        .ok_or(CommandError::PARAMETER_LIST)?;
    let held = held.ok_or(CommandError::CDB)?;
    state.register(Registration {
        nexus,
        key,
        all_tg_pt: false,
    });
    state.reserve(Reservation::new(held.kind(), nexus));
    if list.unregister {
        state.unregister(|registration| registration.nexus == sender);
    }
    state.set_aptpl(list.aptpl);
    state.bump_generation();
    Ok(())
}

/// The nexus that the parameter list names: a known one, and of another initiator port than the
/// sender's. An iSCSI initiator device is none (SPC-4, 7.6.4.6).
fn destination(
    nexuses: &Nexuses,
    sender: NexusId,
    initiator: scsi_pr::TransportId,
    target_port: scsi_pr::RelativeTargetPort,
) -> Option<NexusId> {
    let own = nexuses.get(sender).map(|nexus| &nexus.initiator);
    if is_device(&initiator) || own == Some(&initiator) {
        return None;
    }
    nexuses.find(&Nexus {
        initiator,
        target_port,
    })
}
