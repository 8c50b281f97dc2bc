// SPDX-License-Identifier: MIT OR Apache-2.0

//! TransportIDs as text, in the forms of `sg_persist --transport-id`.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use thiserror::Error;

use super::iscsi::{self, IscsiTextError, IscsiTransportId};
use super::{FIXED_LENGTH, OpaqueTransportId, TransportId};
use crate::hex::{self, HexError};

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportId::FibreChannel { n_port_name } => write!(f, "fcp,{n_port_name:016x}"),
            TransportId::Spi {
                scsi_address,
                relative_target_port,
            } => {
                write!(f, "spi,{scsi_address},{relative_target_port}")
            }
            TransportId::Sbp { eui64 } => write!(f, "sbp,{eui64:016x}"),
            TransportId::Srp { initiator_port } => write!(f, "srp,{initiator_port:032x}"),
            TransportId::Iscsi(iscsi) if iscsi.name.is_standard() => iscsi.fmt(f),
            TransportId::Iscsi(iscsi) => write!(f, "iscsi,{iscsi}"),
            TransportId::Sas { sas_address } => write!(f, "sas,{sas_address:016x}"),
            TransportId::Sop { routing_id } => write!(f, "sop,{routing_id:04x}"),
            TransportId::Opaque(opaque) => write!(f, "raw,{opaque}"),
        }
    }
}

/// The reason that a text is not a TransportID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransportIdTextError {
    /// The text begins with none of the known prefixes.
    #[error(
        "TransportID must begin with iqn., eui., naa., or with one of fcp, spi, sbp, srp, iscsi, \
         sas, sop, raw and a comma"
    )]
    Prefix,
    /// The name is not a hexadecimal number of the required length.
    #[error("invalid name in a TransportID")]
    Hex(#[from] HexError),
    /// SCSI address or port of a parallel SCSI TransportID is not a decimal number up to 65535.
    #[error("invalid number in a TransportID")]
    Decimal(#[from] ParseIntError),
    /// A parallel SCSI TransportID has no relative target port.
    #[error("spi TransportID without relative target port")]
    SpiPort,
    /// The iSCSI name or session identifier is invalid.
    #[error(transparent)]
    Iscsi(#[from] IscsiTextError),
    /// The raw bytes belong to a protocol that has its own form.
    #[error("raw TransportID of a protocol that has a layout")]
    RawLayout,
}

impl FromStr for TransportId {
    type Err = TransportIdTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if iscsi::has_standard_form(text) {
            return Ok(TransportId::Iscsi(text.parse::<IscsiTransportId>()?));
        }
        let (prefix, name) = text.split_once(',').ok_or(TransportIdTextError::Prefix)?;
        match prefix.to_ascii_lowercase().as_str() {
            "fcp" => Ok(TransportId::FibreChannel {
                n_port_name: hex::parse_u64(name, 16, 16)?,
            }),
            "spi" => parse_spi(name),
            "sbp" => Ok(TransportId::Sbp {
                eui64: hex::parse_u64(name, 16, 16)?,
            }),
            "srp" => Ok(TransportId::Srp {
                initiator_port: u128::from_be_bytes(hex::parse_bytes(name)?),
            }),
            "iscsi" => Ok(TransportId::Iscsi(name.parse::<IscsiTransportId>()?)),
            "sas" => Ok(TransportId::Sas {
                sas_address: hex::parse_u64(name, 16, 16)?,
            }),
            "sop" => parse_sop(name),
            "raw" => parse_raw(name),
            _ => Err(TransportIdTextError::Prefix),
        }
    }
}

/// Parses a SCSI address and a relative target port, separated by a comma.
fn parse_spi(numbers: &str) -> Result<TransportId, TransportIdTextError> {
    let (address, port) = numbers
        .split_once(',')
        .ok_or(TransportIdTextError::SpiPort)?;
    Ok(TransportId::Spi {
        scsi_address: address.parse()?,
        relative_target_port: port.parse::<u16>()?.into(),
    })
}

/// Parses a routing identifier of 1 to 4 digits.
fn parse_sop(digits: &str) -> Result<TransportId, TransportIdTextError> {
    let number = hex::parse_u64(digits, 1, 4)?;
    let routing_id = u16::try_from(number).map_err(|_| HexError::TooLong { max: 4 })?;
    Ok(TransportId::Sop { routing_id })
}

/// Parses all bytes of a TransportID of a protocol without a layout.
fn parse_raw(digits: &str) -> Result<TransportId, TransportIdTextError> {
    let bytes = hex::parse_bytes::<FIXED_LENGTH>(digits)?;
    OpaqueTransportId::new(bytes)
        .map(TransportId::Opaque)
        .ok_or(TransportIdTextError::RawLayout)
}
