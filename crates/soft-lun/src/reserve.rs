//! RESERVE.
//!
//! Source: SPC-4, 5.12, reserving.

use scsi_pr::{BasicParameterList, ScopeType};

use crate::answer::CommandError;
use crate::nexus::NexusId;
use crate::state::{Reservation, State};
use crate::supported::SupportedFeatures;

/// Makes a reservation. PRgeneration stays (SPC-4, 6.16.2).
///
/// # Errors
///
/// [`Refusal`]: the key is not the sender's, another reservation is there, or there is no such type.
pub(crate) fn reserve(
    state: &mut State,
    supported: &SupportedFeatures,
    sender: NexusId,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> Result<(), CommandError> {
    state.check_key(sender, list.reservation_key)?;
    match state.reservation() {
        None => {
            let kind = supported.kind_to_reserve(scope_type)?;
            state.reserve(Reservation::new(kind, sender));
            Ok(())
        }
        // A holder may reserve again what it holds, and nothing else. Others do not come here: see
        // access.rs.
        Some(held) if scope_type == held.kind().into() => Ok(()),
        Some(_) => Err(CommandError::Conflict),
    }
}
