// SPDX-License-Identifier: MIT OR Apache-2.0

//! TransportIDs: the names of initiator ports.
//!
//! Source: SPC-4, 7.6.4. This file has the type with its binary form, lists of TransportIDs, and
//! TransportIDs without a layout.

mod iscsi;
mod protocol;
mod text;

use std::fmt;
use std::iter::FusedIterator;

use thiserror::Error;

use crate::hex::HexBytes;
use crate::ids::RelativeTargetPort;
use crate::wire::Reader;

pub use iscsi::{IscsiName, IscsiNameError, IscsiTextError, IscsiTransportId, Isid, IsidError};
pub use protocol::ProtocolIdentifier;
pub use text::TransportIdTextError;

/// Length in bytes of every TransportID except that of iSCSI.
const FIXED_LENGTH: usize = 24;

/// The name of an initiator port, in the form of its transport protocol (SPC-4, 7.6.4).
///
/// The text form is the one of `sg_persist --transport-id`. Digits are hexadecimal, except those of
/// `spi`:
///
/// | protocol | text |
/// |---|---|
/// | Fibre Channel | `fcp,10000000c9f3a571` |
/// | parallel SCSI | `spi,7,1` (SCSI address, relative target port) |
/// | IEEE 1394 | `sbp,0002c90300a1b2c3` |
/// | SRP | `srp,fe80000000000000f4521403007be121` |
/// | iSCSI | `iqn.1993-08.org.debian:01:abc` |
/// | iSCSI with session | `iqn.1993-08.org.debian:01:abc,i,0x00023d000001` |
/// | SAS | `sas,5000c50005b32001` |
/// | SOP | `sop,0300` |
///
/// This crate adds two forms: `iscsi,` before an iSCSI name that does not begin with `iqn.`, `eui.`
/// or `naa.`, and `raw,` before the 48 digits of an [`OpaqueTransportId`].
///
/// ```
/// # use scsi_pr::TransportId;
/// let id: TransportId = "sas,5000c50005b32001".parse()?;
/// assert_eq!(id, TransportId::Sas { sas_address: 0x5000_c500_05b3_2001 });
/// assert_eq!(id.to_string(), "sas,5000c50005b32001");
/// assert_eq!(id.encode()[..12], [6, 0, 0, 0, 0x50, 0, 0xc5, 0, 0x05, 0xb3, 0x20, 0x01]);
/// # Ok::<(), scsi_pr::TransportIdTextError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TransportId {
    /// 0h, Fibre Channel (7.6.4.2).
    FibreChannel {
        /// `N_PORT_NAME`: the world wide port name.
        n_port_name: u64,
    },
    /// 1h, parallel SCSI (7.6.4.3).
    Spi {
        /// SCSI ADDRESS: the initiator's address on the bus.
        scsi_address: u16,
        /// Target port to which the bus is connected.
        relative_target_port: RelativeTargetPort,
    },
    /// 3h, Serial Bus Protocol on IEEE 1394 (7.6.4.4).
    Sbp {
        /// EUI-64 NAME: the name of the node.
        eui64: u64,
    },
    /// 4h, SCSI RDMA Protocol (7.6.4.5).
    Srp {
        /// INITIATOR PORT IDENTIFIER. On InfiniBand its low half is a GUID.
        initiator_port: u128,
    },
    /// 5h, iSCSI (7.6.4.6).
    Iscsi(IscsiTransportId),
    /// 6h, Serial Attached SCSI (7.6.4.7).
    Sas {
        /// SAS ADDRESS: the address of the port.
        sas_address: u64,
    },
    /// ah, SCSI over PCI Express.
    Sop {
        /// ROUTING ID: bus, device and function of the initiator.
        routing_id: u16,
    },
    /// A protocol for which SPC-4 defines no layout.
    Opaque(OpaqueTransportId),
}

impl TransportId {
    /// Returns the protocol.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolIdentifier {
        match self {
            TransportId::FibreChannel { .. } => ProtocolIdentifier::FCP,
            TransportId::Spi { .. } => ProtocolIdentifier::SPI,
            TransportId::Sbp { .. } => ProtocolIdentifier::SBP,
            TransportId::Srp { .. } => ProtocolIdentifier::SRP,
            TransportId::Iscsi(_) => ProtocolIdentifier::ISCSI,
            TransportId::Sas { .. } => ProtocolIdentifier::SAS,
            TransportId::Sop { .. } => ProtocolIdentifier::SOP,
            TransportId::Opaque(opaque) => opaque.protocol(),
        }
    }

    /// Decodes `bytes` as exactly one TransportID.
    ///
    /// Reserved fields are ignored. In an iSCSI TransportID, the padding is ignored and the NUL at
    /// the end is optional.
    ///
    /// # Errors
    ///
    /// Returns [`TransportIdError`] if the bytes are not a TransportID, or if more bytes follow it.
    pub fn decode(bytes: &[u8]) -> Result<Self, TransportIdError> {
        match Self::decode_first(bytes)? {
            (id, length) if length == bytes.len() => Ok(id),
            (_, needed) => Err(TransportIdError::TooLong {
                needed,
                given: bytes.len(),
            }),
        }
    }

    /// Decodes the TransportID at the front of `bytes`. Returns its length in bytes, too.
    ///
    /// # Errors
    ///
    /// Returns [`TransportIdError`] if the bytes do not begin with a TransportID.
    pub fn decode_first(bytes: &[u8]) -> Result<(Self, usize), TransportIdError> {
        let too_short = TransportIdError::TooShort {
            needed: FIXED_LENGTH,
            given: bytes.len(),
        };
        let first = *bytes.first().ok_or(too_short)?;
        let protocol = ProtocolIdentifier::from_low_bits(first);
        let format = first >> 6;
        if protocol == ProtocolIdentifier::ISCSI {
            let (iscsi, length) = IscsiTransportId::decode(format, bytes)?;
            return Ok((TransportId::Iscsi(iscsi), length));
        }
        if protocol.has_layout() && format != 0 {
            return Err(TransportIdError::ReservedFormat { protocol, format });
        }
        let bytes = bytes.first_chunk().ok_or(too_short)?;
        let id = Self::decode_fixed(protocol, bytes).ok_or(too_short)?;
        Ok((id, FIXED_LENGTH))
    }

    /// Decodes a TransportID of 24 bytes: any except iSCSI.
    fn decode_fixed(protocol: ProtocolIdentifier, bytes: &[u8; FIXED_LENGTH]) -> Option<Self> {
        let at = |offset: usize| bytes.get(offset..).map(Reader::new);
        Some(match protocol {
            ProtocolIdentifier::FCP => TransportId::FibreChannel {
                n_port_name: at(8)?.u64()?,
            },
            ProtocolIdentifier::SPI => TransportId::Spi {
                scsi_address: at(2)?.u16()?,
                relative_target_port: at(6)?.u16()?.into(),
            },
            ProtocolIdentifier::SBP => TransportId::Sbp {
                eui64: at(8)?.u64()?,
            },
            ProtocolIdentifier::SRP => TransportId::Srp {
                initiator_port: at(8)?.u128()?,
            },
            ProtocolIdentifier::SAS => TransportId::Sas {
                sas_address: at(4)?.u64()?,
            },
            ProtocolIdentifier::SOP => TransportId::Sop {
                routing_id: at(2)?.u16()?,
            },
            _ => TransportId::Opaque(OpaqueTransportId::new(*bytes)?),
        })
    }

    /// Returns the length of the encoding in bytes: 24, or for iSCSI a multiple of 4 that is at
    /// least 24.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            TransportId::Iscsi(iscsi) => iscsi.encoded_len(),
            _ => FIXED_LENGTH,
        }
    }

    /// Encodes the TransportID. Reserved fields are zero.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let protocol = self.protocol().code();
        match self {
            TransportId::FibreChannel { n_port_name: name } | TransportId::Sbp { eui64: name } => {
                fixed(protocol, &[(8, &name.to_be_bytes())])
            }
            TransportId::Spi {
                scsi_address,
                relative_target_port,
            } => {
                let port = relative_target_port.get().to_be_bytes();
                fixed(protocol, &[(2, &scsi_address.to_be_bytes()), (6, &port)])
            }
            TransportId::Srp { initiator_port } => {
                fixed(protocol, &[(8, &initiator_port.to_be_bytes())])
            }
            TransportId::Iscsi(iscsi) => iscsi.encode(),
            TransportId::Sas { sas_address } => fixed(protocol, &[(4, &sas_address.to_be_bytes())]),
            TransportId::Sop { routing_id } => fixed(protocol, &[(2, &routing_id.to_be_bytes())]),
            TransportId::Opaque(opaque) => opaque.as_bytes().to_vec(),
        }
    }
}

/// Returns 24 bytes with the protocol in the first, each field at its offset, and zeros elsewhere.
fn fixed(protocol: u8, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; FIXED_LENGTH];
    for (offset, field) in [(0, [protocol].as_slice())].iter().chain(fields) {
        for (to, from) in bytes.iter_mut().skip(*offset).zip(*field) {
            *to = *from;
        }
    }
    bytes
}

/// The 24 bytes of a TransportID of a protocol for which SPC-4 defines no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpaqueTransportId([u8; FIXED_LENGTH]);

impl OpaqueTransportId {
    /// Creates the TransportID of these bytes. Returns `None` if their protocol has a layout.
    #[must_use]
    pub const fn new(bytes: [u8; FIXED_LENGTH]) -> Option<Self> {
        let opaque = OpaqueTransportId(bytes);
        if opaque.protocol().has_layout() {
            None
        } else {
            Some(opaque)
        }
    }

    /// Returns all bytes, beginning with FORMAT CODE and PROTOCOL IDENTIFIER.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; FIXED_LENGTH] {
        &self.0
    }

    /// Returns the protocol.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolIdentifier {
        let [first, ..] = self.0;
        ProtocolIdentifier::from_low_bits(first)
    }
}

impl fmt::Display for OpaqueTransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HexBytes(&self.0).fmt(f)
    }
}

/// An iterator over TransportIDs that follow each other without gaps (SPC-4, 6.16.3).
///
/// It ends after the first error, because the offset of the next TransportID is then unknown.
///
/// ```
/// # use scsi_pr::{TransportId, TransportIds};
/// let id: TransportId = "sas,5000c50005b32001".parse()?;
/// let mut bytes = id.encode();
/// bytes.push(6); // the first byte of a truncated TransportID
/// let mut list = TransportIds::new(&bytes);
/// assert_eq!(list.next(), Some(Ok(id)));
/// assert_eq!(list.next().unwrap().unwrap_err().offset, 24);
/// assert_eq!(list.next(), None);
/// # Ok::<(), scsi_pr::TransportIdTextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TransportIds<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> TransportIds<'a> {
    /// Creates an iterator over the TransportIDs in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        TransportIds {
            rest: bytes,
            offset: 0,
        }
    }
}

impl Iterator for TransportIds<'_> {
    type Item = Result<TransportId, TransportIdListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match TransportId::decode_first(self.rest) {
            Ok((id, length)) => {
                self.rest = self.rest.get(length..).unwrap_or_default();
                self.offset = self.offset.saturating_add(length);
                Some(Ok(id))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(TransportIdListError {
                    offset: self.offset,
                    error,
                }))
            }
        }
    }
}

impl FusedIterator for TransportIds<'_> {}

/// The error of decoding a TransportID in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid TransportID at offset {offset} of the list")]
pub struct TransportIdListError {
    /// Offset of the TransportID in bytes from the beginning of the list.
    pub offset: usize,
    /// Reason that the bytes are not a TransportID.
    #[source]
    pub error: TransportIdError,
}

/// The reason that bytes are not a TransportID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TransportIdError {
    /// The bytes end before the TransportID does.
    #[error("TransportID truncated: {needed} bytes needed, {given} given")]
    TooShort {
        /// Length of the TransportID in bytes, as far as it is known.
        needed: usize,
        /// Number of the given bytes.
        given: usize,
    },
    /// Bytes follow the TransportID where exactly one is expected.
    #[error("{given} bytes given, but the TransportID ends after {needed}")]
    TooLong {
        /// Length of the TransportID in bytes.
        needed: usize,
        /// Number of the given bytes.
        given: usize,
    },
    /// FORMAT CODE is reserved for this protocol.
    #[error("format code {format} of a TransportID is reserved with {protocol}")]
    ReservedFormat {
        /// Protocol of the TransportID.
        protocol: ProtocolIdentifier,
        /// FORMAT CODE, 0 to 3.
        format: u8,
    },
    /// ADDITIONAL LENGTH of an iSCSI TransportID is less than 20 or not a multiple of 4.
    #[error("invalid additional length {additional} of an iSCSI TransportID")]
    IscsiLength {
        /// Value of the field.
        additional: usize,
    },
    /// An iSCSI TransportID with a session identifier has no separator.
    #[error("iSCSI TransportID without the separator \",i,0x\"")]
    IscsiSeparator,
    /// The iSCSI name is invalid.
    #[error(transparent)]
    IscsiName(#[from] IscsiNameError),
    /// The iSCSI session identifier is invalid.
    #[error(transparent)]
    Isid(#[from] IsidError),
}
