// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parameter lists: the data that PERSISTENT RESERVE OUT carries.
//!
//! Source: SPC-4, 6.16.3 and 6.16.4.

use std::fmt;

use thiserror::Error;

use crate::cdb::OutServiceAction;
use crate::ids::{RelativeTargetPort, ReservationKey};
use crate::sense::AdditionalSense;
use crate::transport_id::{TransportId, TransportIdError, TransportIdListError, TransportIds};
use crate::wire::{self, Reader};

/// Length in bytes of either list without TransportIDs.
const HEADER_LENGTH: usize = 24;
/// Length of TRANSPORTID PARAMETER DATA LENGTH in bytes.
const LENGTH_FIELD: usize = 4;

/// Bits of byte 20 of the basic list. `APTPL` is also bit 0 of byte 17 of the other one.
const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;
/// Bit of byte 17 of the list of REGISTER AND MOVE.
const UNREG: u8 = 0x02;

/// The parameter list of a PERSISTENT RESERVE OUT command.
///
/// ```
/// # use scsi_pr::{AdditionalSense, OutServiceAction, ParameterList};
/// let mut bytes = [0; 24];
/// bytes[14..16].copy_from_slice(&[0x12, 0x34]);
/// let list = ParameterList::decode(OutServiceAction::Register, &bytes)?;
/// assert_eq!(list.to_string(), "key 0x0, service action key 0x1234");
///
/// let error = ParameterList::decode(OutServiceAction::Register, &bytes[..20]).unwrap_err();
/// assert_eq!(error.additional_sense(), AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
/// # Ok::<(), scsi_pr::ParameterListError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParameterList {
    /// List of all service actions except REGISTER AND MOVE.
    Basic(BasicParameterList),
    /// List of REGISTER AND MOVE.
    RegisterAndMove(RegisterAndMove),
}

impl ParameterList {
    /// Decodes the list of a command with `service_action`.
    ///
    /// # Errors
    ///
    /// Returns [`ParameterListError`] if a device must reject the list.
    pub fn decode(
        service_action: OutServiceAction,
        bytes: &[u8],
    ) -> Result<Self, ParameterListError> {
        match service_action {
            OutServiceAction::RegisterAndMove => {
                RegisterAndMove::decode(bytes).map(ParameterList::RegisterAndMove)
            }
            _ => BasicParameterList::decode(service_action, bytes).map(ParameterList::Basic),
        }
    }

    /// Encodes the list.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            ParameterList::Basic(list) => list.encode(),
            ParameterList::RegisterAndMove(list) => list.encode(),
        }
    }
}

impl From<BasicParameterList> for ParameterList {
    fn from(list: BasicParameterList) -> Self {
        ParameterList::Basic(list)
    }
}

impl From<RegisterAndMove> for ParameterList {
    fn from(list: RegisterAndMove) -> Self {
        ParameterList::RegisterAndMove(list)
    }
}

impl fmt::Display for ParameterList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParameterList::Basic(list) => list.fmt(f),
            ParameterList::RegisterAndMove(list) => list.fmt(f),
        }
    }
}

/// The basic PERSISTENT RESERVE OUT parameter list (SPC-4, 6.16.3).
///
/// SPC-2 had a scope-specific address in bytes 16 to 19 and an extent length in bytes 22 and 23,
/// both obsolete: decoding ignores them, and encoding writes zeros. The service action determines
/// which fields are relevant; the others are kept and displayed nevertheless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BasicParameterList {
    /// Key with which the sender is registered.
    pub reservation_key: ReservationKey,
    /// Key on which the command acts: the one to register or to preempt.
    pub service_action_reservation_key: ReservationKey,
    /// Initiator ports to register in addition to the sender's. `None` if `SPEC_I_PT` is not set.
    pub spec_i_pt: Option<Vec<TransportId>>,
    /// `ALL_TG_PT`: registers at all target ports.
    pub all_tg_pt: bool,
    /// `APTPL`: keeps reservation and registrations through a power loss.
    pub aptpl: bool,
}

impl BasicParameterList {
    /// Decodes the list of a command with `service_action`.
    ///
    /// Bytes after the TransportIDs are ignored, as are reserved fields.
    ///
    /// # Errors
    ///
    /// Returns [`ParameterListError`] if a device must reject the list.
    pub fn decode(
        service_action: OutServiceAction,
        bytes: &[u8],
    ) -> Result<Self, ParameterListError> {
        let wrong_length = ParameterListError::Length {
            length: bytes.len(),
        };
        let mut fields = Reader::new(bytes);
        let (mut list, flags) = Self::decode_header(&mut fields).ok_or(wrong_length)?;
        list.spec_i_pt = match (flags & SPEC_I_PT != 0, service_action) {
            (false, _) if fields.rest().is_empty() => None,
            (false, _) => return Err(wrong_length),
            (true, OutServiceAction::Register) => Some(decode_transport_ids(fields)?),
            (true, other) => return Err(ParameterListError::SpecIPt(other)),
        };
        Ok(list)
    }

    /// Decodes the first 24 bytes, which all lists have, and ignores the rest. Returns `None` if
    /// there are fewer.
    ///
    /// For callers that need the keys and flags of a list, but do not validate it as a device does.
    #[must_use]
    pub fn without_ids(bytes: &[u8]) -> Option<Self> {
        Self::decode_header(&mut Reader::new(bytes)).map(|(list, _)| list)
    }

    /// Decodes the first 24 bytes. Returns the list without TransportIDs, and byte 20.
    fn decode_header(fields: &mut Reader<'_>) -> Option<(Self, u8)> {
        let reservation_key = fields.u64()?.into();
        let service_action_reservation_key = fields.u64()?.into();
        let [_, _, _, _, flags, _, _, _] = fields.array()?;
        let list = BasicParameterList {
            reservation_key,
            service_action_reservation_key,
            spec_i_pt: None,
            all_tg_pt: flags & ALL_TG_PT != 0,
            aptpl: flags & APTPL != 0,
        };
        Some((list, flags))
    }

    /// Encodes the list: 24 bytes, or with `SPEC_I_PT` 28 bytes and the TransportIDs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flags = wire::flags([
            (self.spec_i_pt.is_some(), SPEC_I_PT),
            (self.all_tg_pt, ALL_TG_PT),
            (self.aptpl, APTPL),
        ]);
        let mut bytes = Vec::with_capacity(HEADER_LENGTH);
        bytes.extend(self.reservation_key.get().to_be_bytes());
        bytes.extend(self.service_action_reservation_key.get().to_be_bytes());
        bytes.extend([0, 0, 0, 0, flags, 0, 0, 0]);
        if let Some(ids) = &self.spec_i_pt {
            let ids: Vec<u8> = ids.iter().flat_map(TransportId::encode).collect();
            bytes.extend(wire::length_to_field(ids.len()).to_be_bytes());
            bytes.extend(ids);
        }
        bytes
    }
}

/// Decodes TRANSPORTID PARAMETER DATA LENGTH and that many bytes of TransportIDs.
fn decode_transport_ids(mut fields: Reader<'_>) -> Result<Vec<TransportId>, ParameterListError> {
    let truncated = |declared, given| ParameterListError::TransportIdLength { declared, given };
    let given = fields.rest().len();
    let declared = fields.u32().ok_or_else(|| truncated(LENGTH_FIELD, given))?;
    let declared = wire::length_from_field(declared);
    let given = fields.rest().len();
    let ids = fields
        .bytes(declared)
        .ok_or_else(|| truncated(declared, given))?;
    Ok(TransportIds::new(ids).collect::<Result<_, _>>()?)
}

impl fmt::Display for BasicParameterList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_keys(f, self.reservation_key, self.service_action_reservation_key)?;
        if self.all_tg_pt {
            f.write_str(", ALL_TG_PT")?;
        }
        if self.aptpl {
            f.write_str(", APTPL")?;
        }
        if self.spec_i_pt.is_some() {
            f.write_str(", SPEC_I_PT")?;
        }
        let ids = self.spec_i_pt.as_deref().unwrap_or_default();
        ids.iter().try_for_each(|id| write!(f, " {id}"))
    }
}

/// The parameter list of REGISTER AND MOVE (SPC-4, 6.16.4): the new holder of the reservation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegisterAndMove {
    /// Key with which the sender is registered.
    pub reservation_key: ReservationKey,
    /// Key to register for the new holder.
    pub service_action_reservation_key: ReservationKey,
    /// `UNREG`: removes the sender's registration.
    pub unregister: bool,
    /// `APTPL`: keeps reservation and registrations through a power loss.
    pub aptpl: bool,
    /// Target port that the new holder uses.
    pub relative_target_port: RelativeTargetPort,
    /// Initiator port of the new holder.
    pub transport_id: TransportId,
}

impl RegisterAndMove {
    /// Decodes the list.
    ///
    /// Bytes after the TransportID are ignored, as are reserved fields.
    ///
    /// # Errors
    ///
    /// Returns [`ParameterListError`] if a device must reject the list.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParameterListError> {
        let wrong_length = ParameterListError::Length {
            length: bytes.len(),
        };
        let mut fields = Reader::new(bytes);
        let mut header = || {
            let keys = (fields.u64()?, fields.u64()?);
            Some((keys, fields.array()?, fields.u16()?, fields.u32()?))
        };
        let (keys, [_, flags], port, declared) = header().ok_or(wrong_length)?;
        let declared = wire::length_from_field(declared);
        let given = fields.rest().len();
        let truncated = ParameterListError::TransportIdLength { declared, given };
        let transport_id = fields.bytes(declared).ok_or(truncated)?;
        Ok(RegisterAndMove {
            reservation_key: keys.0.into(),
            service_action_reservation_key: keys.1.into(),
            unregister: flags & UNREG != 0,
            aptpl: flags & APTPL != 0,
            relative_target_port: port.into(),
            transport_id: TransportId::decode(transport_id)?,
        })
    }

    /// Encodes the list: 24 bytes and the TransportID.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let id = self.transport_id.encode();
        let flags = wire::flags([(self.unregister, UNREG), (self.aptpl, APTPL)]);
        let mut bytes = Vec::with_capacity(HEADER_LENGTH.saturating_add(id.len()));
        bytes.extend(self.reservation_key.get().to_be_bytes());
        bytes.extend(self.service_action_reservation_key.get().to_be_bytes());
        bytes.extend([0, flags]);
        bytes.extend(self.relative_target_port.get().to_be_bytes());
        bytes.extend(wire::length_to_field(id.len()).to_be_bytes());
        bytes.extend(id);
        bytes
    }
}

impl fmt::Display for RegisterAndMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_keys(f, self.reservation_key, self.service_action_reservation_key)?;
        if self.unregister {
            f.write_str(", UNREG")?;
        }
        if self.aptpl {
            f.write_str(", APTPL")?;
        }
        let (id, port) = (&self.transport_id, self.relative_target_port);
        write!(f, ", to {id} at target port {port}")
    }
}

fn fmt_keys(
    f: &mut fmt::Formatter<'_>,
    key: ReservationKey,
    service_action_key: ReservationKey,
) -> fmt::Result {
    write!(f, "key {key}, service action key {service_action_key}")
}

/// The reason that bytes are not the parameter list of a PERSISTENT RESERVE OUT command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParameterListError {
    /// The list has fewer than 24 bytes, or more without TransportIDs.
    #[error("parameter list of {length} bytes, 24 needed")]
    Length {
        /// Length of the list in bytes.
        length: usize,
    },
    /// `SPEC_I_PT` is set, but the service action is not REGISTER.
    #[error("SPEC_I_PT is not allowed with {0}")]
    SpecIPt(OutServiceAction),
    /// The TransportIDs exceed the list.
    #[error("TransportIDs truncated: {given} of {declared} bytes")]
    TransportIdLength {
        /// Length of the TransportIDs in bytes by their length field. 4 if that field is truncated.
        declared: usize,
        /// Number of bytes that are present.
        given: usize,
    },
    /// A TransportID of `SPEC_I_PT` is invalid.
    #[error(transparent)]
    TransportIdList(#[from] TransportIdListError),
    /// The TransportID of REGISTER AND MOVE is invalid.
    #[error("invalid TransportID of REGISTER AND MOVE")]
    TransportId(#[from] TransportIdError),
}

impl ParameterListError {
    /// Returns the code with which a device rejects the list. The sense key is ILLEGAL REQUEST.
    ///
    /// SPC-4 (6.16.1) requires PARAMETER LIST LENGTH ERROR for a wrong length without TransportIDs.
    /// For truncated or invalid TransportIDs, SPC-4 (6.16.3) requires ILLEGAL REQUEST and leaves
    /// the additional sense code open. It is INVALID FIELD IN PARAMETER LIST, as from Linux's
    /// target.
    #[must_use]
    pub const fn additional_sense(&self) -> AdditionalSense {
        match self {
            ParameterListError::Length { .. } => AdditionalSense::PARAMETER_LIST_LENGTH_ERROR,
            _ => AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST,
        }
    }
}
