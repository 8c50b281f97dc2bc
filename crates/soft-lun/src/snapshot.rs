// SPDX-License-Identifier: MIT OR Apache-2.0

//! Export and import of a unit's state.

use scsi_pr::{PrGeneration, ReservationType};
use thiserror::Error;

use crate::nexus::{Nexus, NexusId, Nexuses};
use crate::state::{Registration, Reservation, UnitAttention, UnitState};
use crate::supported_features::SupportedFeatures;

/// A copy of everything in a unit that commands change. Its nexuses are those of that unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The registrations, in the order in which they were made.
    pub registrations: Vec<Registration>,
    /// The reservation.
    pub reservation: Option<Reservation>,
    /// PRgeneration.
    pub generation: PrGeneration,
    /// `APTPL`: registrations and reservation persist through a power loss.
    pub aptpl: bool,
    /// The pending unit attentions; for each nexus, oldest first.
    pub unit_attentions: Vec<(NexusId, UnitAttention)>,
}

/// A snapshot that is not a valid state of the unit: no sequence of commands leads to it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// The unit does not have this nexus.
    #[error("unknown I_T nexus")]
    UnknownNexus(NexusId),
    /// A nexus has two registrations.
    #[error("{} is registered twice at target port {}", .0.initiator, .0.target_port)]
    DuplicateRegistration(Nexus),
    /// A registration has the key zero.
    #[error("{} is registered with key zero at target port {}", .0.initiator, .0.target_port)]
    ZeroKey(Nexus),
    /// The holder of the reservation is not registered.
    #[error("the holder {} at target port {} is not registered", .0.initiator, .0.target_port)]
    HolderNotRegistered(Nexus),
    /// A reservation of an all registrants type has a holder, or one of another type has none.
    #[error("the holder does not match reservation type {0}")]
    HolderMismatch(ReservationType),
    /// The snapshot uses a feature that the unit does not support.
    #[error("the unit does not support {0}")]
    Unsupported(&'static str),
    /// A unit attention is pending twice for a nexus.
    #[error("duplicate unit attention for {} at target port {}", .0.initiator, .0.target_port)]
    DuplicateUnitAttention(Nexus),
    /// The reservation has an all registrants type, but there are no registrations.
    #[error("an all registrants reservation without registrations")]
    NoRegistrants,
}

impl Snapshot {
    pub(crate) fn new(nexuses: &Nexuses, state: &UnitState) -> Self {
        let unit_attentions = nexuses.iter().flat_map(|(id, _)| {
            let queue = state.unit_attentions(id).iter();
            queue.map(move |attention| (id, *attention))
        });
        Snapshot {
            registrations: state.registrations().to_vec(),
            reservation: state.reservation,
            generation: state.generation,
            aptpl: state.aptpl,
            unit_attentions: unit_attentions.collect(),
        }
    }

    pub(crate) fn to_state(
        &self,
        nexuses: &Nexuses,
        features: &SupportedFeatures,
    ) -> Result<UnitState, SnapshotError> {
        self.check_features(features)?;
        let get = |id| {
            let nexus = nexuses.get(id).cloned();
            nexus.ok_or(SnapshotError::UnknownNexus(id))
        };
        let mut state = UnitState::new(nexuses.len());
        for registration in &self.registrations {
            let nexus = get(registration.nexus)?;
            if registration.key.is_zero() {
                return Err(SnapshotError::ZeroKey(nexus));
            }
            if state.is_registered(registration.nexus) {
                return Err(SnapshotError::DuplicateRegistration(nexus));
            }
            state.register(*registration);
        }
        match self.reservation.map(|reservation| reservation.holder()) {
            Some(Some(holder)) if !state.is_registered(holder) => {
                return Err(SnapshotError::HolderNotRegistered(get(holder)?));
            }
            Some(None) if self.registrations.is_empty() => {
                return Err(SnapshotError::NoRegistrants);
            }
            _ => state.reservation = self.reservation,
        }
        state.generation = self.generation;
        state.aptpl = self.aptpl;
        for (id, attention) in &self.unit_attentions {
            let nexus = get(*id)?;
            if state.unit_attentions(*id).contains(attention) {
                return Err(SnapshotError::DuplicateUnitAttention(nexus));
            }
            state.establish(*attention, *id);
        }
        Ok(state)
    }

    fn check_features(&self, features: &SupportedFeatures) -> Result<(), SnapshotError> {
        let kind = self.reservation.map(|reservation| reservation.kind());
        let all_tg_pt = self.registrations.iter().any(|one| one.all_tg_pt);
        if self.aptpl && !features.persist_through_power_loss {
            Err(SnapshotError::Unsupported("APTPL"))
        } else if all_tg_pt && !features.all_target_ports {
            Err(SnapshotError::Unsupported("ALL_TG_PT"))
        } else if kind.is_some_and(|kind| !features.types.contains(kind)) {
            Err(SnapshotError::Unsupported("the reservation type"))
        } else {
            Ok(())
        }
    }
}
