//! A soft LUN's state, and `state.json`, which holds it.

use scsi_pr::{PrGeneration, ReservationKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::description::{LunConfig, LunId};
use super::name::Name;
use super::text;
use super::type_text::TypeText;
use crate::attention::UnitAttention;
use crate::nexus::NexusId;
use crate::snapshot::{ImpossibleState, Snapshot};
use crate::state::{Registration, Reservation};
use crate::unit::LogicalUnit;

/// A state as it is in the file. Nexuses are called by their ports' names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    format: Format,
    #[serde(with = "text")]
    identity: LunId,
    /// Since which start of the host it has been so (`boot_id`).
    boot: String,
    generation: u32,
    aptpl: bool,
    reservation: Option<ReservationText>,
    registrations: Vec<RegistrationText>,
    attentions: Vec<AttentionText>,
}

/// Why a record is none of a soft LUN.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateFileError {
    /// It is another one's.
    #[error("it is that of {found}, and this one is {expected}")]
    Foreign {
        /// Whose it is.
        found: LunId,
        /// Whose it should be.
        expected: LunId,
    },
    /// It speaks of a port that the soft LUN does not have.
    #[error("it speaks of port {0}, which there is not")]
    UnknownPort(Name),
    /// The unit has a nexus that the soft LUN has no port for.
    #[error("it has a nexus that is none of the ports'")]
    UnknownNexus(NexusId),
    /// No command leads to it.
    #[error(transparent)]
    Impossible(#[from] ImpossibleState),
}

#[derive(Debug, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "soft-lun-state 1")]
    One,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReservationText {
    r#type: TypeText,
    /// None where all registrants hold it.
    holder: Option<PortName>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrationText {
    port: PortName,
    #[serde(with = "text")]
    key: ReservationKey,
    all_tg_pt: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttentionText {
    port: PortName,
    #[serde(with = "AttentionKind")]
    attention: UnitAttention,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct PortName(#[serde(with = "text")] Name);

#[derive(Serialize, Deserialize)]
#[serde(remote = "UnitAttention", rename_all = "kebab-case")]
enum AttentionKind {
    PowerOn,
    ReservationsPreempted,
    ReservationsReleased,
    RegistrationsPreempted,
}

impl StateFile {
    /// The state of a description's unit. `boot` is since which start of the host it has been so.
    ///
    /// # Errors
    ///
    /// [`RecordError::UnknownNexus`]: the unit is another one's.
    pub fn from_unit(
        description: &LunConfig,
        boot: &str,
        unit: &LogicalUnit,
    ) -> Result<Self, StateFileError> {
        let snapshot = unit.snapshot();
        let name = |nexus| {
            let port = description.port(nexus);
            let port = port.map(|port| PortName(port.name.clone()));
            port.ok_or(StateFileError::UnknownNexus(nexus))
        };
        let registration = |one: &Registration| -> Result<_, StateFileError> {
            Ok(RegistrationText {
                port: name(one.nexus)?,
                key: one.key,
                all_tg_pt: one.all_tg_pt,
            })
        };
        let attention =
            |(nexus, attention): &(NexusId, UnitAttention)| -> Result<_, StateFileError> {
                Ok(AttentionText {
                    port: name(*nexus)?,
                    attention: *attention,
                })
            };
        let reservation = |held: Reservation| -> Result<_, StateFileError> {
            Ok(ReservationText {
                r#type: TypeText(held.kind()),
                holder: held.holder().map(name).transpose()?,
            })
        };
        let registrations = snapshot.registrations.iter().map(registration);
        let attentions = snapshot.attentions.iter().map(attention);
        Ok(StateFile {
            format: Format::One,
            identity: description.identity,
            boot: boot.to_owned(),
            generation: snapshot.generation.get(),
            aptpl: snapshot.aptpl,
            reservation: snapshot.reservation.map(reservation).transpose()?,
            registrations: registrations.collect::<Result<_, StateFileError>>()?,
            attentions: attentions.collect::<Result<_, StateFileError>>()?,
        })
    }

    /// The content of `state.json`.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`]: none is known.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut content = serde_json::to_vec_pretty(self)?;
        content.push(b'\n');
        Ok(content)
    }

    /// What `state.json` says.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`]: it is no such file, or one of another version.
    pub fn from_json(content: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(content)
    }

    /// Puts the state into a description's unit. If the host has been started anew since it was so,
    /// `boot` being the present start, the unit has lost power.
    ///
    /// # Errors
    ///
    /// [`RecordError`]: it is another unit's, or cannot be. Then nothing is changed.
    pub fn restore(
        self,
        description: &LunConfig,
        boot: &str,
        unit: &mut LogicalUnit,
    ) -> Result<(), StateFileError> {
        let power_was_lost = self.boot != boot;
        unit.restore(&self.snapshot(description)?)?;
        if power_was_lost {
            unit.lose_power();
        }
        Ok(())
    }

    fn snapshot(self, description: &LunConfig) -> Result<Snapshot, StateFileError> {
        if self.identity != description.identity {
            return Err(StateFileError::Foreign {
                found: self.identity,
                expected: description.identity,
            });
        }
        let nexus = |PortName(port): PortName| {
            let nexus = description.nexus(&port);
            nexus.ok_or(StateFileError::UnknownPort(port))
        };
        let registration = |one: RegistrationText| -> Result<_, StateFileError> {
            Ok(Registration {
                nexus: nexus(one.port)?,
                key: one.key,
                all_tg_pt: one.all_tg_pt,
            })
        };
        let attention = |one: AttentionText| -> Result<_, StateFileError> {
            Ok((nexus(one.port)?, one.attention))
        };
        let reservation = |held: ReservationText| {
            let holder = held.holder.map(nexus).transpose()?;
            let kind = held.r#type.0;
            Reservation::with_holder(kind, holder).ok_or(StateFileError::Impossible(
                ImpossibleState::HolderOfType(kind),
            ))
        };
        Ok(Snapshot {
            registrations: self
                .registrations
                .into_iter()
                .map(registration)
                .collect::<Result<_, StateFileError>>()?,
            reservation: self.reservation.map(reservation).transpose()?,
            generation: PrGeneration::new(self.generation),
            aptpl: self.aptpl,
            attentions: self
                .attentions
                .into_iter()
                .map(attention)
                .collect::<Result<_, StateFileError>>()?,
        })
    }
}
