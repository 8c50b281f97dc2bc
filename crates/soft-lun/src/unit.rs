// SPDX-License-Identifier: MIT OR Apache-2.0

//! The logical unit: receives commands and returns responses.

use scsi_pr::{PrGeneration, ReservationKey};

use crate::access::{self, Access};
use crate::commands::{self, CommandContext};
use crate::nexus::{Nexus, NexusError, NexusId, Nexuses};
use crate::response::{CommandError, Response};
use crate::snapshot::{Snapshot, SnapshotError};
use crate::state::{Registration, Reservation, UnitAttention, UnitState};
use crate::supported_features::SupportedFeatures;

/// A logical unit with a fixed list of nexuses.
///
/// A unit is a value: two equal units give equal responses to every command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogicalUnit {
    nexuses: Nexuses,
    features: SupportedFeatures,
    state: UnitState,
}

impl LogicalUnit {
    /// Creates a unit without registrations that supports all features.
    ///
    /// # Errors
    ///
    /// Returns [`NexusError`] if a nexus is invalid or is in the list twice.
    pub fn new(nexuses: Vec<Nexus>) -> Result<Self, NexusError> {
        let nexuses = Nexuses::new(nexuses)?;
        Ok(LogicalUnit {
            features: SupportedFeatures::default(),
            state: UnitState::new(nexuses.len()),
            nexuses,
        })
    }

    /// Limits the unit to the given features.
    #[must_use]
    pub const fn with_features(mut self, features: SupportedFeatures) -> Self {
        self.features = features;
        self
    }

    /// Returns the features that the unit supports.
    #[must_use]
    pub const fn supported_features(&self) -> SupportedFeatures {
        self.features
    }

    /// Returns the nexuses, in the order in which they were given.
    pub fn nexuses(&self) -> impl Iterator<Item = (NexusId, &Nexus)> {
        self.nexuses.iter()
    }

    /// Returns the identifier of a nexus.
    #[must_use]
    pub fn find_nexus(&self, nexus: &Nexus) -> Option<NexusId> {
        self.nexuses.find(nexus)
    }

    /// Returns the registrations, in the order in which they were made.
    #[must_use]
    pub fn registrations(&self) -> &[Registration] {
        self.state.registrations()
    }

    /// Returns the key that a nexus is registered with.
    #[must_use]
    pub fn key(&self, nexus: NexusId) -> Option<ReservationKey> {
        self.state.key(nexus)
    }

    /// Returns the reservation, if there is one.
    #[must_use]
    pub const fn reservation(&self) -> Option<Reservation> {
        self.state.reservation
    }

    /// Returns whether a nexus holds the reservation, alone or with all registrants.
    #[must_use]
    pub fn is_holder(&self, nexus: NexusId) -> bool {
        self.state.is_holder(nexus)
    }

    /// Returns PRgeneration.
    #[must_use]
    pub const fn generation(&self) -> PrGeneration {
        self.state.generation
    }

    /// Returns whether registrations and reservation persist through a power loss (`PTPL_A`).
    #[must_use]
    pub const fn aptpl(&self) -> bool {
        self.state.aptpl
    }

    /// Returns the pending unit attentions of a nexus, oldest first.
    #[must_use]
    pub fn unit_attentions(&self, nexus: NexusId) -> &[UnitAttention] {
        self.state.unit_attentions(nexus)
    }

    /// Returns whether the reservation allows a nexus to read. Reports no unit attention.
    #[must_use]
    pub fn can_read(&self, nexus: NexusId) -> bool {
        access::is_allowed(&self.state, nexus, Access::Read)
    }

    /// Returns whether the reservation allows a nexus to write. Reports no unit attention.
    #[must_use]
    pub fn can_write(&self, nexus: NexusId) -> bool {
        access::is_allowed(&self.state, nexus, Access::Write)
    }

    /// Checks a command other than PERSISTENT RESERVE against the reservation.
    ///
    /// GOOD means that the command is allowed. A pending unit attention is reported first.
    pub fn access(&mut self, nexus: NexusId, access: Access) -> Response {
        self.respond(nexus, |unit| {
            match access::is_allowed(&unit.state, nexus, access) {
                true => Ok(Vec::new()),
                false => Err(CommandError::Conflict),
            }
        })
    }

    /// Executes a PERSISTENT RESERVE command from `nexus`.
    ///
    /// A PERSISTENT RESERVE OUT uses as many bytes of `parameters` as the PARAMETER LIST LENGTH in
    /// the CDB says. Fewer bytes are a PARAMETER LIST LENGTH ERROR. A PERSISTENT RESERVE IN ignores
    /// `parameters`. If a unit attention is pending, the unit reports it and does not execute the
    /// command. CONTROL and reserved fields are ignored.
    pub fn execute(&mut self, nexus: NexusId, cdb: &[u8], parameters: &[u8]) -> Response {
        self.respond(nexus, |unit| {
            let context = CommandContext {
                state: &mut unit.state,
                nexuses: &unit.nexuses,
                features: &unit.features,
                sender: nexus,
            };
            commands::execute(context, cdb, parameters)
        })
    }

    /// Simulates a power loss (SPC-4, 5.12, preserving persistent reservations).
    ///
    /// Registrations and reservation persist if the last registration set `APTPL`; otherwise they
    /// are removed. PRgeneration restarts at zero in both cases (SPC-4, 6.15.2). Pending unit
    /// attentions are dropped, and each nexus gets [`UnitAttention::PowerOn`].
    pub fn lose_power(&mut self) {
        self.state.lose_power();
    }

    /// Returns a copy of everything that commands change, for [`Self::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.nexuses, &self.state)
    }

    /// Replaces the state with a snapshot.
    ///
    /// # Errors
    ///
    /// Returns [`SnapshotError`] if no sequence of commands leads to the snapshot. The state does
    /// not change then.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.state = snapshot.to_state(&self.nexuses, &self.features)?;
        Ok(())
    }

    /// Reports a pending unit attention, or executes a command.
    fn respond(
        &mut self,
        nexus: NexusId,
        command: impl FnOnce(&mut Self) -> Result<Vec<u8>, CommandError>,
    ) -> Response {
        if self.nexuses.get(nexus).is_none() {
            return CommandError::LOGICAL_UNIT_NOT_SUPPORTED.into();
        }
        if let Some(attention) = self.state.take_unit_attention(nexus) {
            return attention.into();
        }
        command(self).map_or_else(Response::from, Response::good)
    }
}
