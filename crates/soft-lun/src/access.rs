//! What a reservation forbids.
//!
//! Source: SPC-4, 5.12, the tables of commands that are allowed in the presence of a persistent
//! reservation; for reads and writes those of SBC say the same.

use scsi_pr::OutServiceAction;

use crate::nexus::NexusId;
use crate::state::State;

/// What a command that is none of persistent reservations does to the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing that a reservation forbids: TEST UNIT READY (`ALLOW COMMANDS` says so).
    Test,
    /// It reads the medium.
    Read,
    /// It writes it.
    Write,
}

/// Whether a nexus may do this.
pub(crate) fn is_allowed(state: &State, nexus: NexusId, access: Access) -> bool {
    let Some(reservation) = state.reservation() else {
        return true;
    };
    let kind = reservation.kind();
    let free = state.is_holder(nexus) || kind.allows_registrants() && state.is_registered(nexus);
    match access {
        Access::Test => true,
        Access::Read => free || kind.is_write_exclusive(),
        Access::Write => free,
    }
}

/// Whether the reservation of another nexus forbids a service action, whatever its parameters.
pub(crate) fn conflicts(state: &State, sender: NexusId, action: OutServiceAction) -> bool {
    if state.reservation().is_none() || state.is_holder(sender) {
        return false;
    }
    match action {
        OutServiceAction::Reserve | OutServiceAction::RegisterAndMove => true,
        OutServiceAction::Clear
        | OutServiceAction::Preempt
        | OutServiceAction::PreemptAndAbort
        | OutServiceAction::Release => !state.is_registered(sender),
        OutServiceAction::Register
        | OutServiceAction::RegisterAndIgnoreExistingKey
        | OutServiceAction::ReplaceLostReservation => false,
    }
}
