//! A unit's state in the open: for whoever keeps it, and for putting it back.

use scsi_pr::{PrGeneration, ReservationType};
use thiserror::Error;

use crate::attention::Attention;
use crate::nexus::{Nexus, NexusId, Nexuses};
use crate::state::{Registration, Reservation, State};

/// All that commands change. Nexuses are those of the unit that it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The registrations, in the order in which they were made.
    pub registrations: Vec<Registration>,
    /// The reservation.
    pub reservation: Option<Reservation>,
    /// How often registrations were changed.
    pub generation: PrGeneration,
    /// Whether registrations and reservation outlast a loss of power.
    pub aptpl: bool,
    /// What is to be told; for each nexus, in the order in which it will be.
    pub attentions: Vec<(NexusId, Attention)>,
}

/// Why a snapshot is none of a unit: no command leads there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImpossibleState {
    /// The unit has no such nexus.
    #[error("a nexus that the unit does not have")]
    UnknownNexus(NexusId),
    /// One nexus is registered twice.
    #[error("{} is registered twice at target port {}", .0.initiator, .0.target_port)]
    RegisteredTwice(Nexus),
    /// Zero is no key.
    #[error("{} is registered at target port {} with the key zero", .0.initiator, .0.target_port)]
    KeyZero(Nexus),
    /// The reservation has a holder that is not registered.
    #[error("the holder {} at target port {} is not registered", .0.initiator, .0.target_port)]
    HolderNotRegistered(Nexus),
    /// One that all registrants hold has a holder, or another one none.
    #[error("a reservation of type {0} that does not go with its holder")]
    HolderOfType(ReservationType),
    /// All registrants hold the reservation, and there are none.
    #[error("a reservation of all registrants without any")]
    NoRegistrants,
}

impl Snapshot {
    pub(crate) fn of(nexuses: &Nexuses, state: &State) -> Self {
        let attentions = nexuses
            .iter()
            .flat_map(|(id, _)| state.attentions(id).iter().map(move |one| (id, *one)));
        Snapshot {
            registrations: state.registrations().to_vec(),
            reservation: state.reservation(),
            generation: state.generation(),
            aptpl: state.aptpl(),
            attentions: attentions.collect(),
        }
    }

    /// The state that this is of. A unit attention that is there twice counts once.
    ///
    /// # Errors
    ///
    /// [`ImpossibleState`].
    pub(crate) fn to_state(&self, nexuses: &Nexuses) -> Result<State, ImpossibleState> {
        let name = |id| {
            let nexus = nexuses.get(id).cloned();
            nexus.ok_or(ImpossibleState::UnknownNexus(id))
        };
        let mut state = State::new(nexuses.len());
        for registration in &self.registrations {
            let nexus = name(registration.nexus)?;
            if registration.key.is_zero() {
                return Err(ImpossibleState::KeyZero(nexus));
            }
            if state.is_registered(registration.nexus) {
                return Err(ImpossibleState::RegisteredTwice(nexus));
            }
            state.register(*registration);
        }
        if let Some(reservation) = self.reservation {
            match reservation.holder() {
                Some(holder) if !state.is_registered(holder) => {
                    return Err(ImpossibleState::HolderNotRegistered(name(holder)?));
                }
                None if self.registrations.is_empty() => {
                    return Err(ImpossibleState::NoRegistrants);
                }
                _ => state.reserve(reservation),
            }
        }
        state.set_generation(self.generation);
        state.set_aptpl(self.aptpl);
        for (nexus, attention) in &self.attentions {
            name(*nexus)?;
            state.establish(*attention, *nexus);
        }
        Ok(state)
    }
}
