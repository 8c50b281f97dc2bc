// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of a soft LUN, and `state.json`, which contains it.

use scsi_pr::{PrGeneration, ReservationKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::json::{self, TypeJson, text};
use super::lun_config::{LunConfig, LunId, Name};
use crate::nexus::NexusId;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::state::{Registration, Reservation, UnitAttention};
use crate::unit::LogicalUnit;

/// The content of a state file. It refers to nexuses by the names of their ports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    format: StateFormat,
    #[serde(with = "text")]
    identity: LunId,
    /// The boot ID of the host when the file was written.
    boot: String,
    generation: u32,
    aptpl: bool,
    reservation: Option<ReservationJson>,
    registrations: Vec<RegistrationJson>,
    attentions: Vec<UnitAttentionJson>,
}

/// A [`StateFile`] that is not a valid state of a soft LUN.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateFileError {
    /// The state belongs to another soft LUN.
    #[error("the state belongs to {found}, but this soft LUN is {expected}")]
    Foreign {
        /// The identity in the state file.
        found: LunId,
        /// The identity of the soft LUN.
        expected: LunId,
    },
    /// The soft LUN does not have this port.
    #[error("unknown port {0}")]
    UnknownPort(Name),
    /// The soft LUN does not have a port for this nexus of the unit.
    #[error("an I_T nexus of the unit has no port")]
    UnknownNexus(NexusId),
    /// No sequence of commands leads to the state.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

#[derive(Debug, Serialize, Deserialize)]
enum StateFormat {
    #[serde(rename = "soft-lun-state 1")]
    V1,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReservationJson {
    r#type: TypeJson,
    /// `None` for an all registrants type.
    holder: Option<PortName>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrationJson {
    port: PortName,
    #[serde(with = "text")]
    key: ReservationKey,
    all_tg_pt: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitAttentionJson {
    port: PortName,
    #[serde(with = "UnitAttentionName")]
    attention: UnitAttention,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct PortName(#[serde(with = "text")] Name);

#[derive(Serialize, Deserialize)]
#[serde(remote = "UnitAttention", rename_all = "kebab-case")]
enum UnitAttentionName {
    PowerOn,
    ReservationsPreempted,
    ReservationsReleased,
    RegistrationsPreempted,
}

impl StateFile {
    /// Creates the state file of a unit. `boot_id` is the boot ID of the host.
    ///
    /// # Errors
    ///
    /// Returns [`StateFileError::UnknownNexus`] if the unit does not belong to `config`.
    pub fn from_unit(
        config: &LunConfig,
        boot_id: &str,
        unit: &LogicalUnit,
    ) -> Result<Self, StateFileError> {
        let snapshot = unit.snapshot();
        let port = |nexus| {
            let port = config.port(nexus);
            let port = port.map(|port| PortName(port.name.clone()));
            port.ok_or(StateFileError::UnknownNexus(nexus))
        };
        let reservation = snapshot.reservation.map(|held| {
            Ok::<_, StateFileError>(ReservationJson {
                r#type: TypeJson(held.kind()),
                holder: held.holder().map(port).transpose()?,
            })
        });
        let registrations = snapshot.registrations.iter().map(|one| {
            Ok::<_, StateFileError>(RegistrationJson {
                port: port(one.nexus)?,
                key: one.key,
                all_tg_pt: one.all_tg_pt,
            })
        });
        let attentions = snapshot.unit_attentions.iter().map(|(nexus, attention)| {
            Ok::<_, StateFileError>(UnitAttentionJson {
                port: port(*nexus)?,
                attention: *attention,
            })
        });
        Ok(StateFile {
            format: StateFormat::V1,
            identity: config.identity,
            boot: boot_id.to_owned(),
            generation: snapshot.generation.get(),
            aptpl: snapshot.aptpl,
            reservation: reservation.transpose()?,
            registrations: registrations.collect::<Result<_, _>>()?,
            attentions: attentions.collect::<Result<_, _>>()?,
        })
    }

    /// Serializes `state.json`.
    ///
    /// # Errors
    ///
    /// No error is known to occur.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        json::to_vec(self)
    }

    /// Parses `state.json`.
    ///
    /// # Errors
    ///
    /// Returns [`serde_json::Error`] if the file has another format or version.
    pub fn from_json(content: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(content)
    }

    /// Replaces the state of the unit of `config`. If the file was written before the boot with
    /// `boot_id`, the unit loses power.
    ///
    /// # Errors
    ///
    /// Returns [`StateFileError`] if the state belongs to another soft LUN or is invalid. The unit
    /// does not change then.
    pub fn restore(
        self,
        config: &LunConfig,
        boot_id: &str,
        unit: &mut LogicalUnit,
    ) -> Result<(), StateFileError> {
        let rebooted = self.boot != boot_id;
        unit.restore(&self.into_snapshot(config)?)?;
        if rebooted {
            unit.lose_power();
        }
        Ok(())
    }

    fn into_snapshot(self, config: &LunConfig) -> Result<Snapshot, StateFileError> {
        if self.identity != config.identity {
            return Err(StateFileError::Foreign {
                found: self.identity,
                expected: config.identity,
            });
        }
        let nexus = |PortName(port): PortName| {
            let nexus = config.nexus(&port);
            nexus.ok_or(StateFileError::UnknownPort(port))
        };
        let registrations = self.registrations.into_iter().map(|one| {
            Ok::<_, StateFileError>(Registration {
                nexus: nexus(one.port)?,
                key: one.key,
                all_tg_pt: one.all_tg_pt,
            })
        });
        let reservation = self.reservation.map(|held| {
            let (kind, holder) = (held.r#type.0, held.holder.map(nexus).transpose()?);
            Reservation::with_holder(kind, holder).ok_or(StateFileError::Snapshot(
                SnapshotError::HolderMismatch(kind),
            ))
        });
        let unit_attentions = self.attentions.into_iter();
        let unit_attentions = unit_attentions.map(|one| Ok((nexus(one.port)?, one.attention)));
        Ok(Snapshot {
            registrations: registrations.collect::<Result<_, _>>()?,
            reservation: reservation.transpose()?,
            generation: PrGeneration::new(self.generation),
            aptpl: self.aptpl,
            unit_attentions: unit_attentions.collect::<Result<_, StateFileError>>()?,
        })
    }
}
