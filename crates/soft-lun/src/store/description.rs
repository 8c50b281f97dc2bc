//! What a soft LUN is, and `lun.json`, which says so.

use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use scsi_pr::{RelativeTargetPort, TransportId, TypeMask};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::name::Name;
use super::text;
use super::type_text::TypeText;
use crate::nexus::{Nexus, NexusError, NexusId};
use crate::supported::SupportedFeatures;
use crate::unit::LogicalUnit;

/// The identity of a soft LUN: an NAA designator, locally assigned (SPC-4, 7.8.6.6.4), `naa.3` and 15
/// hexadecimal digits. A state belongs to one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LunId(u64);

/// What is no identity of a soft LUN.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an identity is naa.3 and 15 hexadecimal digits")]
pub struct LunIdError;

impl LunId {
    /// NAA 3h: locally assigned.
    const LOCAL: u64 = 3 << 60;

    /// One that no other soft LUN has.
    ///
    /// # Errors
    ///
    /// [`std::io::Error`]: the kernel has no random numbers.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 8];
        // Fewer than 256 bytes come all at once, or not at all.
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(LunId(u64::from_be_bytes(bytes) >> 4 | Self::LOCAL))
    }

    /// The designator's eight bytes, as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "naa.{:016x}", self.0)
    }
}

impl FromStr for LunId {
    type Err = LunIdError;

    fn from_str(text: &str) -> Result<Self, LunIdError> {
        let digits = text.strip_prefix("naa.").filter(|digits| {
            digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let local = value.filter(|value| value >> 60 == Self::LOCAL >> 60);
        local.map(LunId).ok_or(LunIdError)
    }
}

/// An initiator port's way to the unit, and the file that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name of the file.
    pub name: Name,
    /// Whoever has it open is this `I_T` nexus.
    pub nexus: Nexus,
}

/// Why there can be no such soft LUN.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LunConfigError {
    /// Two ports have one name.
    #[error("two ports are named {0}")]
    DuplicatePort(Name),
    /// More ports than there can be.
    #[error("{0} ports are more than the {most} that there can be", most = LunConfig::MAX_PORTS)]
    TooManyPorts(usize),
    /// There cannot be such nexuses.
    #[error(transparent)]
    Nexus(#[from] NexusError),
}

/// What a soft LUN is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunConfig {
    /// Its identity.
    pub identity: LunId,
    /// Its ports, in the order in which they were given.
    pub ports: Vec<Port>,
    /// What it supports.
    pub supported: SupportedFeatures,
}

impl LunConfig {
    /// The most ports that there can be: enough for any cluster, and a state with all of them registered
    /// is still small.
    pub const MAX_PORTS: usize = 1024;

    /// The unit, with nobody registered; its nexuses are in the order of the ports.
    ///
    /// # Errors
    ///
    /// [`DescriptionError`]: there cannot be such ports.
    pub fn unit(&self) -> Result<LogicalUnit, LunConfigError> {
        if self.ports.len() > Self::MAX_PORTS {
            return Err(LunConfigError::TooManyPorts(self.ports.len()));
        }
        for (place, port) in self.ports.iter().enumerate() {
            let mut others = self.ports.iter().skip(place).skip(1);
            if others.any(|other| other.name == port.name) {
                return Err(LunConfigError::DuplicatePort(port.name.clone()));
            }
        }
        let nexuses = self.ports.iter().map(|port| port.nexus.clone());
        Ok(LogicalUnit::new(nexuses.collect())?.with_features(self.supported))
    }

    /// The nexus behind a port, in a [`Self::unit`].
    #[must_use]
    pub fn nexus(&self, name: &Name) -> Option<NexusId> {
        let place = self.ports.iter().position(|port| port.name == *name);
        place.map(NexusId)
    }

    /// The port in front of a nexus of a [`Self::unit`].
    #[must_use]
    pub fn port(&self, nexus: NexusId) -> Option<&Port> {
        self.ports.get(nexus.0)
    }

    /// The content of `lun.json`.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut content = serde_json::to_vec_pretty(&DescriptionText::from(self))?;
        content.push(b'\n');
        Ok(content)
    }

    /// What `lun.json` says.
    pub(super) fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes).map(DescriptionText::into)
    }
}

/// First in each file, so that another kind of file, or a later version's, is told before all else.
#[derive(Serialize, Deserialize)]
enum Format {
    #[serde(rename = "soft-lun 1")]
    One,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescriptionText {
    format: Format,
    #[serde(with = "text")]
    identity: LunId,
    ports: Vec<PortText>,
    supported: SupportedText,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortText {
    #[serde(with = "text")]
    name: Name,
    #[serde(with = "text")]
    initiator: TransportId,
    target_port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SupportedText {
    aptpl: bool,
    spec_i_pt: bool,
    all_tg_pt: bool,
    types: Vec<TypeText>,
}

impl From<&LunConfig> for DescriptionText {
    fn from(description: &LunConfig) -> Self {
        let supported = description.supported;
        let port = |port: &Port| PortText {
            name: port.name.clone(),
            initiator: port.nexus.initiator.clone(),
            target_port: port.nexus.target_port.get(),
        };
        DescriptionText {
            format: Format::One,
            identity: description.identity,
            ports: description.ports.iter().map(port).collect(),
            supported: SupportedText {
                aptpl: supported.persist_through_power_loss,
                spec_i_pt: supported.specify_initiator_ports,
                all_tg_pt: supported.all_target_ports,
                types: supported.types.types().map(TypeText).collect(),
            },
        }
    }
}

impl From<DescriptionText> for LunConfig {
    fn from(text: DescriptionText) -> Self {
        let supported = text.supported;
        let port = |port: PortText| Port {
            name: port.name,
            nexus: Nexus {
                initiator: port.initiator,
                target_port: RelativeTargetPort::new(port.target_port),
            },
        };
        let types = supported.types.into_iter();
        LunConfig {
            identity: text.identity,
            ports: text.ports.into_iter().map(port).collect(),
            supported: SupportedFeatures {
                persist_through_power_loss: supported.aptpl,
                specify_initiator_ports: supported.spec_i_pt,
                all_target_ports: supported.all_tg_pt,
                types: types.fold(TypeMask::default(), |mask, kind| mask.with(kind.0)),
            },
        }
    }
}
