//! CLEAR.
//!
//! Source: SPC-4, 5.12, clearing.

use scsi_pr::BasicParameterList;

use crate::answer::Refusal;
use crate::attention::Attention;
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
) -> Result<(), Refusal> {
    state.check_key(sender, list.reservation_key)?;
    state.tell_registrants_but(sender, Attention::ReservationsPreempted);
    state.unregister(|_| true);
    state.count();
    Ok(())
}
