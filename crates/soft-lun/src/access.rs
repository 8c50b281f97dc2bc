// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands that a reservation forbids.
//!
//! Source: SPC-4, 5.12, the tables of commands that are allowed in the presence of a persistent
//! reservation. For reads and writes, the tables of SBC are the same.

use scsi_pr::OutServiceAction;

use crate::nexus::NexusId;
use crate::state::UnitState;

/// The effect on the unit of a command other than PERSISTENT RESERVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// TEST UNIT READY, which every reservation allows (`ALLOW COMMANDS` in REPORT CAPABILITIES).
    TestUnitReady,
    /// The command reads the medium.
    Read,
    /// The command writes the medium.
    Write,
}

/// Returns whether the reservation allows a nexus this access.
pub(crate) fn is_allowed(state: &UnitState, nexus: NexusId, access: Access) -> bool {
    let Some(reservation) = state.reservation else {
        return true;
    };
    let kind = reservation.kind();
    let full = state.is_holder(nexus) || kind.allows_registrants() && state.is_registered(nexus);
    match access {
        Access::TestUnitReady => true,
        Access::Read => full || kind.is_write_exclusive(),
        Access::Write => full,
    }
}

/// Returns whether the reservation of another nexus forbids a service action, whatever its
/// parameters.
pub(crate) fn conflicts(state: &UnitState, sender: NexusId, action: OutServiceAction) -> bool {
    if state.reservation.is_none() || state.is_holder(sender) {
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
