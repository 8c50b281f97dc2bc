//! RELEASE.
//!
//! Source: SPC-4, 5.12, releasing.

use scsi_pr::{BasicParameterList, ScopeType};

use crate::answer::CommandError;
use crate::attention::UnitAttention;
use crate::nexus::NexusId;
use crate::state::State;

/// Gives up the reservation; registrations and PRgeneration stay (SPC-4, 6.16.2).
///
/// # Errors
///
/// [`Refusal`]: the key is not the sender's, or scope and type are not those of its reservation.
pub(crate) fn release(
    state: &mut State,
    sender: NexusId,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    state.check_key(sender, list.reservation_key)?;
    let Some(held) = state.reservation().filter(|_| state.is_holder(sender)) else {
        // No error: what the sender does not hold is not released.
        return Ok(());
    };
    if scope_type != held.kind().into() {
        return Err(CommandError::RELEASE);
    }
    state.release();
    if held.kind().allows_registrants() {
        state.notify_other_registrants(sender, UnitAttention::ReservationsReleased);
    }
    Ok(())
}
