// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl lun create`: arguments and help, and the creation of a soft LUN.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum, ValueHint};
use scsi_pr::{RelativeTargetPort, ReservationType, TransportId, TransportIdTextError, TypeMask};
use soft_lun::store::{Lun, Name, NameError, Port, StoreError};
use soft_lun::{Nexus, SupportedFeatures};
use thiserror::Error;

use super::{LunStatus, lun_status};
use crate::error::AdvisedError;
use crate::labels::{self, ValueError};

pub(super) const HELP: &str = "\
Create a soft LUN without registrations.

Each port is an I_T nexus, the pair of a port of a host and a port of the disk:
an initiator port (its TransportID, after '=') that reaches the unit through a
target port (its relative number, after '@'). By default, the first port has
the initiator port sas,3000000000000001, the second sas,3000000000000002, and
so on, all through target port 1, like hosts with one adapter each.
TransportIDs have the syntax of sg_persist.

Storage arrays differ in the features that they support. Use --without and
--types to imitate one of them: the soft LUN rejects everything else, and its
capabilities report what it supports.";
pub(super) const EXAMPLES: &str = "\
EXAMPLES
  prhctl lun create /srv/luns/quorum
  prhctl lun create luns/a --port node1 --port node2 --port node3
  prhctl lun create luns/b --port b@2 \\
      --port a=iqn.2024-01.example:a,i,0x00023d000001
  prhctl lun create luns/c --without aptpl --types we-ro,ea-ro

Exit status 0, or 1 if the soft LUN was not created.";

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Directory of the soft LUN, which is created
    #[arg(value_name = "PATH", value_hint = ValueHint::DirPath)]
    path: PathBuf,
    /// Port and its nexus. Can be repeated [default: node1 and node2]
    #[arg(long = "port", value_name = "NAME[=TRANSPORTID][@NUMBER]", value_hint = ValueHint::Other)]
    ports: Vec<PortSpec>,
    /// Unsupported feature: aptpl, spec-i-pt or all-tg-pt. Can be repeated
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    without: Vec<Feature>,
    #[arg(
        long, value_name = "TYPE,...", value_delimiter = ',',
        value_parser = labels::RESERVATION_TYPE,
        allow_negative_numbers = true, hide_possible_values = true,
        help = concat!("Supported types [default: all]:\n", type_names!())
    )]
    types: Vec<ReservationType>,
}

/// A feature that a soft LUN can be created without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Feature {
    /// Registrations that persist through a power loss
    Aptpl,
    /// Registration of other initiator ports
    SpecIPt,
    /// Registration at all target ports
    AllTgPt,
}

/// The value of `--port`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PortSpec {
    name: Name,
    initiator: Option<TransportId>,
    target_port: Option<RelativeTargetPort>,
}

#[derive(Debug, Error)]
enum PortSpecError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Initiator(#[from] TransportIdTextError),
    #[error(transparent)]
    TargetPort(#[from] ValueError),
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        // Neither names nor TransportIDs contain '@' or '='.
        let (rest, target_port) = match text.rsplit_once('@') {
            Some((rest, number)) => (rest, Some(labels::parse_target_port(number)?)),
            None => (text, None),
        };
        let (name, initiator) = match rest.split_once('=') {
            Some((name, initiator)) => (name, Some(initiator.parse()?)),
            None => (rest, None),
        };
        Ok(PortSpec {
            name: name.parse()?,
            initiator,
            target_port,
        })
    }
}

/// Why a soft LUN was not created.
#[derive(Debug, Error)]
pub(super) enum CreateError {
    #[error(transparent)]
    NoParent(StoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdvisedError for CreateError {
    fn advice(&self) -> Vec<String> {
        match self {
            CreateError::NoParent(StoreError::Io { path, .. }) => {
                vec![format!(
                    "Create the directory first: mkdir -p {}.",
                    path.display()
                )]
            }
            CreateError::NoParent(error) | CreateError::Store(error) => error.advice(),
        }
    }
}

/// Runs `prhctl lun create`.
pub(super) fn create(args: &CreateArgs) -> Result<LunStatus, CreateError> {
    let ports = match args.ports.is_empty() {
        true => ["node1", "node2"]
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        false => args.ports.clone(),
    };
    let ports = ports.into_iter().zip(1..).map(new_port).collect();
    let has = |feature| !args.without.contains(&feature);
    let supported = SupportedFeatures {
        persist_through_power_loss: has(Feature::Aptpl),
        specify_initiator_ports: has(Feature::SpecIPt),
        all_target_ports: has(Feature::AllTgPt),
        types: match args.types.is_empty() {
            true => TypeMask::ALL,
            false => args.types.iter().copied().collect(),
        },
    };
    let lun = Lun::create(&args.path, ports, supported);
    let lun = lun.map_err(|error| match is_no_parent(&error, &args.path) {
        true => CreateError::NoParent(error),
        false => error.into(),
    })?;
    Ok(lun_status(&lun)?)
}

/// Returns whether the directory that should contain the soft LUN does not exist.
fn is_no_parent(error: &StoreError, lun: &Path) -> bool {
    matches!(
        error,
        StoreError::Io { path, source, .. }
            if source.kind() == ErrorKind::NotFound && lun.parent() == Some(path)
    )
}

/// Returns the `number`th port. Without a given initiator port, equal numbers get equal initiator
/// ports on all soft LUNs, like the adapter of a host that uses several disks.
fn new_port((spec, number): (PortSpec, u64)) -> Port {
    /// NAA 3h, locally assigned (SPC-4, 7.8.6.6.4): no adapter has such an address.
    const LOCALLY_ASSIGNED: u64 = 3 << 60;
    let sas_address = LOCALLY_ASSIGNED | number;
    Port {
        name: spec.name,
        nexus: Nexus {
            initiator: spec.initiator.unwrap_or(TransportId::Sas { sas_address }),
            target_port: spec.target_port.unwrap_or(RelativeTargetPort::new(1)),
        },
    }
}
