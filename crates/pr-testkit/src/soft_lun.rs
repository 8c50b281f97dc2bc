// SPDX-License-Identifier: MIT OR Apache-2.0

//! A soft LUN with two ports.

use std::fs;
use std::path::{Path, PathBuf};

use scsi_pr::TransportId;
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};

/// Creates a port with the initiator port `initiator`.
#[must_use]
pub fn port(name: &str, initiator: TransportId, target_port: u16) -> Port {
    Port {
        name: name.parse().unwrap(),
        nexus: Nexus {
            initiator,
            target_port: target_port.into(),
        },
    }
}

/// Returns the ports `a` and `b`. Each has an initiator port and a target port of its own.
#[must_use]
pub fn two_ports() -> Vec<Port> {
    let ports = [
        ("a", 0x3000_0000_0000_000a, 1),
        ("b", 0x3000_0000_0000_000b, 2),
    ];
    ports
        .map(|(name, sas_address, target)| port(name, TransportId::Sas { sas_address }, target))
        .into()
}

/// The soft LUN `lun` in the directory `luns`.
pub struct SoftLunFixture {
    /// Directory `luns`, the value of the helper's option `--soft-luns`.
    pub luns: PathBuf,
    /// The soft LUN.
    pub lun: Lun,
}

impl SoftLunFixture {
    /// Creates `luns/lun` in `dir`, with [`two_ports`].
    #[must_use]
    pub fn create(dir: &Path) -> Self {
        Self::with_ports(dir, two_ports())
    }

    /// Creates `luns/lun` in `dir`.
    #[must_use]
    pub fn with_ports(dir: &Path, ports: Vec<Port>) -> Self {
        let luns = dir.join("luns");
        fs::create_dir(&luns).unwrap();
        let lun = Lun::create(&luns.join("lun"), ports, SupportedFeatures::default()).unwrap();
        Self { luns, lun }
    }

    /// Returns the path of a port.
    #[must_use]
    pub fn port(&self, name: &str) -> PathBuf {
        self.lun.port_path(&name.parse().unwrap())
    }
}
