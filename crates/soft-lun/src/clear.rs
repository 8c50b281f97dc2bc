//! CLEAR.
//!
//! Source: SPC-4, 5.12, clearing.

use scsi_pr::BasicParameterList;

use crate::answer::CommandError;
use crate::attention::UnitAttention;
use crate::nexus::NexusId;
use crate::state::State;

/// Removes the reservation and all registrations, and tells those who had one.
///
/// # Errors
///
/// [`Refusal::Conflict`]: the key is not the sender's.
pub(crate) fn clear(
    state: &mut State,
    sender: NexusId,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    state.check_key(sender, list.reservation_key)?;
    state.notify_other_registrants(sender, UnitAttention::ReservationsPreempted);
    state.unregister(|_| true);
    state.bump_generation();
    Ok(())
}
