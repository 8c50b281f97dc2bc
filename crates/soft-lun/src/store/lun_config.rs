// SPDX-License-Identifier: MIT OR Apache-2.0

//! The configuration of a soft LUN, and `lun.json`, which contains it.

use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use scsi_pr::{RelativeTargetPort, TransportId, TypeMask};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::json::{self, TypeJson, text};
use crate::nexus::{Nexus, NexusError, NexusId};
use crate::supported_features::SupportedFeatures;
use crate::unit::LogicalUnit;

/// The name of a soft LUN or of a port, which is also a file name: 1 to 64 ASCII letters, digits,
/// dots, dashes and underscores, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// An invalid [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a name has 1 to 64 letters, digits, dots, dashes and underscores, and no leading dot")]
pub struct NameError;

impl Name {
    const MAX_LEN: usize = 64;

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        match fits && !text.starts_with('.') && text.bytes().all(is_allowed) {
            true => Ok(Name(text.into())),
            false => Err(NameError),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a soft LUN: a locally assigned NAA designator (SPC-4, 7.8.6.6.4), written as
/// `naa.3` and 15 hexadecimal digits. A state file belongs to one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LunId(u64);

/// An invalid [`LunId`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an identity is naa.3 and 15 hexadecimal digits")]
pub struct LunIdError;

impl LunId {
    /// NAA 3h: locally assigned.
    const LOCAL: u64 = 3 << 60;

    /// Creates a random identity. Fails if the kernel has no random numbers.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 8];
        // A request for at most 256 bytes is never interrupted or cut short.
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(LunId(u64::from_be_bytes(bytes) >> 4 | Self::LOCAL))
    }

    /// Returns the eight bytes of the designator as a big-endian number.
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

/// A port of a soft LUN: a file, and the nexus that it represents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name of the file.
    pub name: Name,
    /// The `I_T` nexus of a process that has the file open.
    pub nexus: Nexus,
}

/// An invalid [`LunConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LunConfigError {
    /// Two ports have the same name.
    #[error("two ports are named {0}")]
    DuplicatePort(Name),
    /// There are more ports than [`LunConfig::MAX_PORTS`].
    #[error("{0} ports exceed the limit of {max}", max = LunConfig::MAX_PORTS)]
    TooManyPorts(usize),
    /// The nexuses of the ports are invalid.
    #[error(transparent)]
    Nexus(#[from] NexusError),
}

/// The configuration of a soft LUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunConfig {
    /// The identity.
    pub identity: LunId,
    /// The ports, in the order in which they were given.
    pub ports: Vec<Port>,
    /// The supported features.
    pub supported_features: SupportedFeatures,
}

impl LunConfig {
    /// Maximum number of ports: enough for any cluster, and small enough that a state in which all
    /// ports are registered remains small.
    pub const MAX_PORTS: usize = 1024;

    /// Creates the unit, without registrations. Its nexuses are in the order of the ports.
    ///
    /// # Errors
    ///
    /// Returns [`LunConfigError`] if the ports are invalid.
    pub fn unit(&self) -> Result<LogicalUnit, LunConfigError> {
        if self.ports.len() > Self::MAX_PORTS {
            return Err(LunConfigError::TooManyPorts(self.ports.len()));
        }
        for (index, port) in self.ports.iter().enumerate() {
            let mut later = self.ports.iter().skip(index).skip(1);
            if later.any(|other| other.name == port.name) {
                return Err(LunConfigError::DuplicatePort(port.name.clone()));
            }
        }
        let nexuses = self.ports.iter().map(|port| port.nexus.clone());
        Ok(LogicalUnit::new(nexuses.collect())?.with_features(self.supported_features))
    }

    /// Returns the nexus of a port in [`Self::unit`].
    #[must_use]
    pub fn nexus(&self, name: &Name) -> Option<NexusId> {
        let index = self.ports.iter().position(|port| port.name == *name);
        index.map(NexusId)
    }

    /// Returns the port of a nexus of [`Self::unit`].
    #[must_use]
    pub fn port(&self, nexus: NexusId) -> Option<&Port> {
        self.ports.get(nexus.0)
    }

    /// Serializes `lun.json`.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        json::to_vec(&ConfigJson::from(self))
    }

    /// Parses `lun.json`.
    pub(super) fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes).map(ConfigJson::into)
    }
}

/// The first field, so that a file of another kind or version is rejected for that reason.
#[derive(Serialize, Deserialize)]
enum ConfigFormat {
    #[serde(rename = "soft-lun 1")]
    V1,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigJson {
    format: ConfigFormat,
    #[serde(with = "text")]
    identity: LunId,
    ports: Vec<PortJson>,
    supported: FeaturesJson,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortJson {
    #[serde(with = "text")]
    name: Name,
    #[serde(with = "text")]
    initiator: TransportId,
    target_port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeaturesJson {
    aptpl: bool,
    spec_i_pt: bool,
    all_tg_pt: bool,
    types: Vec<TypeJson>,
}

impl From<&LunConfig> for ConfigJson {
    fn from(config: &LunConfig) -> Self {
        let features = config.supported_features;
        let port = |port: &Port| PortJson {
            name: port.name.clone(),
            initiator: port.nexus.initiator.clone(),
            target_port: port.nexus.target_port.get(),
        };
        ConfigJson {
            format: ConfigFormat::V1,
            identity: config.identity,
            ports: config.ports.iter().map(port).collect(),
            supported: FeaturesJson {
                aptpl: features.persist_through_power_loss,
                spec_i_pt: features.specify_initiator_ports,
                all_tg_pt: features.all_target_ports,
                types: features.types.types().map(TypeJson).collect(),
            },
        }
    }
}

impl From<ConfigJson> for LunConfig {
    fn from(config: ConfigJson) -> Self {
        let features = config.supported;
        let port = |port: PortJson| Port {
            name: port.name,
            nexus: Nexus {
                initiator: port.initiator,
                target_port: RelativeTargetPort::new(port.target_port),
            },
        };
        let types = features.types.into_iter();
        LunConfig {
            identity: config.identity,
            ports: config.ports.into_iter().map(port).collect(),
            supported_features: SupportedFeatures {
                persist_through_power_loss: features.aptpl,
                specify_initiator_ports: features.spec_i_pt,
                all_target_ports: features.all_tg_pt,
                types: types.fold(TypeMask::default(), |mask, kind| mask.with(kind.0)),
            },
        }
    }
}
