//! The command line of `lun` and `demo`: logical units in software.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use scsi_pr::{RelativeTargetPort, ReservationType, TransportId, TransportIdTextError};
use soft_lun::store::{Name, NameError};
use thiserror::Error;

use super::values::TargetPortError;
use super::{help, values};

/// What to do with soft LUNs.
#[derive(Debug, Subcommand)]
pub(crate) enum Lun {
    /// Make a soft LUN
    #[command(long_about = help::LUN_CREATE, after_long_help = help::LUN_CREATE_EXAMPLES)]
    Create(LunCreate),
    /// List the soft LUNs in a folder
    #[command(long_about = help::LUN_LIST, after_long_help = help::LUN_LIST_EXAMPLES)]
    List(LunList),
    /// Show a soft LUN: its ports, and what is registered and reserved
    #[command(long_about = help::LUN_SHOW, after_long_help = help::LUN_SHOW_EXAMPLES)]
    Show(LunShow),
}

/// `lun create`.
#[derive(Debug, Args)]
pub(crate) struct LunCreate {
    /// The soft LUN's folder, which is made
    #[arg(value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub(crate) path: PathBuf,
    /// A port, and its nexus. Can be repeated [default: node1 and node2]
    #[arg(long = "port", value_name = "NAME[=TRANSPORTID][@NUMBER]")]
    pub(crate) ports: Vec<PortSpec>,
    /// What it does not support: aptpl, spec-i-pt or all-tg-pt. Can be repeated
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub(crate) without: Vec<Feature>,
    /// The types of reservation that it supports, with commas between them [default: all]
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', value_parser = values::reservation_type)]
    pub(crate) types: Vec<ReservationType>,
}

/// `lun list`.
#[derive(Debug, Args)]
pub(crate) struct LunList {
    /// The folder that the soft LUNs are in
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

/// `lun show`.
#[derive(Debug, Args)]
pub(crate) struct LunShow {
    /// The soft LUN's folder
    #[arg(value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub(crate) path: PathBuf,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The helper's program [default: the one beside prhctl]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    pub(crate) helper: Option<PathBuf>,
}

/// What a soft LUN can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Feature {
    /// Registrations that outlast a loss of power
    Aptpl,
    /// Registering other initiator ports
    SpecIPt,
    /// Registering at all target ports
    AllTgPt,
}

/// A port to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSpec {
    /// Its name.
    pub(crate) name: Name,
    /// The initiator port, if it is given.
    pub(crate) initiator: Option<TransportId>,
    /// The relative target port, if it is given.
    pub(crate) target_port: Option<RelativeTargetPort>,
}

/// What is no port.
#[derive(Debug, Error)]
pub(crate) enum PortSpecError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The initiator port is none.
    #[error(transparent)]
    Initiator(#[from] TransportIdTextError),
    /// The relative target port is none.
    #[error(transparent)]
    TargetPort(#[from] TargetPortError),
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        // Neither names nor TransportIDs have one of these characters in them.
        let (rest, number) = match text.rsplit_once('@') {
            Some((rest, number)) => (rest, Some(values::target_port(number)?)),
            None => (text, None),
        };
        let (name, initiator) = match rest.split_once('=') {
            Some((name, initiator)) => (name, Some(initiator.parse()?)),
            None => (rest, None),
        };
        Ok(PortSpec {
            name: name.parse()?,
            initiator,
            target_port: number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_with_and_without_their_nexus() {
        for (text, name, initiator, target_port) in [
            ("node1", "node1", None, None),
            ("node1@2", "node1", None, Some(2)),
            (
                "a=sas,5001405000000001",
                "a",
                Some("sas,5001405000000001"),
                None,
            ),
            (
                "a=iqn.2024-01.example:a,i,0x00023d000001@65535",
                "a",
                Some("iqn.2024-01.example:a,i,0x00023d000001"),
                Some(65535),
            ),
        ] {
            let spec: PortSpec = text.parse().unwrap();
            assert_eq!(spec.name.as_str(), name);
            assert_eq!(
                spec.initiator.map(|id| id.to_string()).as_deref(),
                initiator
            );
            assert_eq!(spec.target_port.map(RelativeTargetPort::get), target_port);
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (text, words) in [
            ("", "a name has 1 to 64"),
            ("a/b", "a name has 1 to 64"),
            ("a@0", "not a relative target port"),
            ("a@65536", "1 to 65535"),
            ("a@", "not a relative target port"),
            ("a=sas", "sas"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
