//! TransportIDs as operators write them: the forms of `sg_persist --transport-id`.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use thiserror::Error;

use super::iscsi::{self, IscsiTextError};
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

/// A text is no TransportID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransportIdTextError {
    /// It begins with none of the known prefixes.
    #[error(
        "TransportID begins with none of fcp, spi, sbp, srp, iscsi, sas, sop, raw and a comma, \
         nor with iqn., eui., naa."
    )]
    Prefix,
    /// The name is not the hexadecimal number that belongs there.
    #[error("name in a TransportID is wrong")]
    Hex(#[from] HexError),
    /// SCSI address or port of a parallel SCSI TransportID is no decimal number up to 65535.
    #[error("number in a TransportID is wrong")]
    Decimal(#[from] ParseIntError),
    /// A parallel SCSI TransportID has no second number.
    #[error("spi TransportID without relative target port")]
    SpiPort,
    /// The iSCSI name or session identifier is wrong.
    #[error(transparent)]
    Iscsi(#[from] IscsiTextError),
    /// Raw bytes are those of a protocol that has a form of its own.
    #[error("raw TransportID of a protocol that has a layout")]
    RawLayout,
}

impl FromStr for TransportId {
    type Err = TransportIdTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if iscsi::has_standard_form(text) {
            return Ok(TransportId::Iscsi(text.parse::<super::IscsiTransportId>()?));
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
                initiator_port: hex::parse_u128(name)?,
            }),
            "iscsi" => Ok(TransportId::Iscsi(name.parse::<super::IscsiTransportId>()?)),
            "sas" => Ok(TransportId::Sas {
                sas_address: hex::parse_u64(name, 16, 16)?,
            }),
            "sop" => parse_sop(name),
            "raw" => parse_raw(name),
            _ => Err(TransportIdTextError::Prefix),
        }
    }
}

/// SCSI address and relative target port, with a comma between.
///
/// # Errors
///
/// [`TransportIdTextError`]: the text is something else.
fn parse_spi(numbers: &str) -> Result<TransportId, TransportIdTextError> {
    let (address, port) = numbers
        .split_once(',')
        .ok_or(TransportIdTextError::SpiPort)?;
    Ok(TransportId::Spi {
        scsi_address: address.parse()?,
        relative_target_port: port.parse::<u16>()?.into(),
    })
}

/// A routing identifier of 1 to 4 digits.
///
/// # Errors
///
/// [`TransportIdTextError`]: the text is something else.
fn parse_sop(digits: &str) -> Result<TransportId, TransportIdTextError> {
    let number = hex::parse_u64(digits, 1, 4)?;
    let routing_id = u16::try_from(number).map_err(|_| HexError::TooLong { most: 4 })?;
    Ok(TransportId::Sop { routing_id })
}

/// All bytes of a TransportID whose protocol has no layout.
///
/// # Errors
///
/// [`TransportIdTextError`]: the text is something else.
fn parse_raw(digits: &str) -> Result<TransportId, TransportIdTextError> {
    let bytes = hex::parse_bytes::<FIXED_LENGTH>(digits)?;
    OpaqueTransportId::new(bytes)
        .map(TransportId::Opaque)
        .ok_or(TransportIdTextError::RawLayout)
}
