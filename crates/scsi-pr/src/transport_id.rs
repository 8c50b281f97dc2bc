//! TransportIDs: which initiator port a registration belongs to.
//!
//! Source: SPC-4, 7.6.4.

mod error;
mod iscsi;
mod list;
mod opaque;
mod protocol;
mod text;

use crate::ids::RelativeTargetPort;
use crate::wire::Reader;

pub use error::TransportIdError;
pub use iscsi::{IscsiName, IscsiNameError, IscsiTextError, IscsiTransportId, Isid, IsidError};
pub use list::{TransportIdListError, TransportIds};
pub use opaque::OpaqueTransportId;
pub use protocol::ProtocolIdentifier;
pub use text::TransportIdTextError;

/// Bytes of every TransportID but that of iSCSI.
const FIXED_LENGTH: usize = 24;

/// The name of an initiator port, in the form of its transport protocol (SPC-4, 7.6.4).
///
/// Text is what `sg_persist --transport-id` takes, all digits hexadecimal but those of `spi`:
///
/// | protocol | text |
/// |---|---|
/// | Fibre Channel | `fcp,10000000c9f3a571` |
/// | parallel SCSI | `spi,7,1` (SCSI address, relative target port) |
/// | IEEE 1394 | `sbp,0002c90300a1b2c3` |
/// | SRP | `srp,fe80000000000000f4521403007be121` |
/// | iSCSI | `iqn.1993-08.org.debian:01:abc`, with session `iqn.1993-08.org.debian:01:abc,i,0x00023d000001` |
/// | SAS | `sas,5000c50005b32001` |
/// | SOP | `sop,0300` |
///
/// and two forms of this crate: `iscsi,` before an iSCSI name that is none of `iqn.`, `eui.`,
/// `naa.`; `raw,` before the 48 digits of an [`OpaqueTransportId`].
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
        /// `N_PORT_NAME`, the world wide port name.
        n_port_name: u64,
    },
    /// 1h, parallel SCSI (7.6.4.3).
    Spi {
        /// The initiator's address on the bus.
        scsi_address: u16,
        /// The target port that the bus is on.
        relative_target_port: RelativeTargetPort,
    },
    /// 3h, Serial Bus Protocol on IEEE 1394 (7.6.4.4).
    Sbp {
        /// EUI-64 NAME of the node.
        eui64: u64,
    },
    /// 4h, SCSI RDMA Protocol (7.6.4.5).
    Srp {
        /// INITIATOR PORT IDENTIFIER; on InfiniBand its low half is a GUID.
        initiator_port: u128,
    },
    /// 5h, iSCSI (7.6.4.6).
    Iscsi(IscsiTransportId),
    /// 6h, Serial Attached SCSI (7.6.4.7).
    Sas {
        /// SAS ADDRESS of the port.
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
    /// The protocol.
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

    /// Reads `bytes` as one TransportID and nothing after it.
    ///
    /// Reserved fields are ignored. Of an iSCSI TransportID the padding is ignored, and so is a
    /// missing NUL at its end.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`], and what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, TransportIdError> {
        match Self::decode_first(bytes)? {
            (id, length) if length == bytes.len() => Ok(id),
            (_, needed) => Err(TransportIdError::TooLong {
                needed,
                given: bytes.len(),
            }),
        }
    }

    /// Reads the TransportID at the front of `bytes`, and says how many bytes it has there.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`], and what is wrong.
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

    /// Reads what has 24 bytes: all but iSCSI.
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

    /// How many bytes [`Self::encode`] gives: 24, with iSCSI any multiple of 4 from there on.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            TransportId::Iscsi(iscsi) => iscsi.encoded_len(),
            _ => FIXED_LENGTH,
        }
    }

    /// The bytes on the wire; reserved fields are zero.
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

/// 24 bytes with the protocol in the first, each field at its offset, and zero elsewhere.
fn fixed(protocol: u8, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; FIXED_LENGTH];
    for (offset, field) in [(0, [protocol].as_slice())].iter().chain(fields) {
        for (to, from) in bytes.iter_mut().skip(*offset).zip(*field) {
            *to = *from;
        }
    }
    bytes
}
