//! A unit's state in the open: for whoever keeps it, and for putting it back.

use scsi_pr::{PrGeneration, ReservationType};
use thiserror::Error;

use crate::attention::UnitAttention;
use crate::nexus::{Nexus, NexusId, Nexuses};
use crate::state::{Registration, Reservation, State};
use crate::supported::SupportedFeatures;

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
    pub attentions: Vec<(NexusId, UnitAttention)>,
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
    /// The unit does not support what is registered or reserved.
    #[error("{0}, which the unit does not support")]
    NotSupported(&'static str),
    /// A unit attention waits for one nexus twice.
    #[error("a unit attention waits twice for {} at target port {}", .0.initiator, .0.target_port)]
    ToldTwice(Nexus),
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

    /// The state that this is of.
    ///
    /// # Errors
    ///
    /// [`ImpossibleState`].
    pub(crate) fn to_state(
        &self,
        nexuses: &Nexuses,
        supported: &SupportedFeatures,
    ) -> Result<State, ImpossibleState> {
        self.check(supported)?;
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
            let name = name(*nexus)?;
            if state.attentions(*nexus).contains(attention) {
                return Err(ImpossibleState::ToldTwice(name));
            }
            state.establish(*attention, *nexus);
        }
        Ok(state)
    }

    /// # Errors
    ///
    /// [`ImpossibleState::NotSupported`].
    fn check(&self, supported: &SupportedFeatures) -> Result<(), ImpossibleState> {
        let kind = self.reservation.map(|held| held.kind());
        let all_tg_pt = self.registrations.iter().any(|one| one.all_tg_pt);
        let not_supported = [
            (self.aptpl && !supported.persist_through_power_loss, "APTPL"),
            (all_tg_pt && !supported.all_target_ports, "ALL_TG_PT"),
            (
                kind.is_some_and(|kind| !supported.types.contains(kind)),
                "a reservation of this type",
            ),
        ];
        let first = not_supported.into_iter().find(|(is_so, _)| *is_so);
        first.map_or(Ok(()), |(_, what)| Err(ImpossibleState::NotSupported(what)))
    }
}
