// SPDX-License-Identifier: MIT OR Apache-2.0

//! The data of READ FULL STATUS.

use std::fmt;

use thiserror::Error;

use super::{List, ParameterDataError, Truncatable, encode_list};
use crate::ids::{PrGeneration, RelativeTargetPort, ReservationKey};
use crate::reservation::ScopeType;
use crate::transport_id::{TransportId, TransportIdError};
use crate::wire::{self, Reader};

const ALL_TG_PT: u8 = 0x02;
const R_HOLDER: u8 = 0x01;
/// Length in bytes of a descriptor without its TransportID.
const DESCRIPTOR_HEADER_LENGTH: usize = 24;

/// The data of READ FULL STATUS (SPC-4, 6.15.5): all registrations, with the holders marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FullStatus {
    /// Generation of the registrations.
    pub generation: PrGeneration,
    /// Registrations in the device's order.
    pub descriptors: Vec<FullStatusDescriptor>,
}

/// The registration of an initiator port at one target port, or at all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FullStatusDescriptor {
    /// Registered key.
    pub key: ReservationKey,
    /// `ALL_TG_PT`: the registration applies to all target ports.
    pub all_tg_pt: bool,
    /// `R_HOLDER`: the registrant holds the reservation.
    pub holder: bool,
    /// Scope and type of the reservation. Meaningful only if `holder` is set.
    pub scope_type: ScopeType,
    /// Target port. Meaningless if `all_tg_pt` is set.
    pub relative_target_port: RelativeTargetPort,
    /// Initiator port. A malformed TransportID is kept as bytes, so that it does not hide the other
    /// registrations.
    pub transport_id: Result<TransportId, MalformedTransportId>,
}

/// A malformed TransportID, as the device sent it.
///
/// The text form is `malformed,` and the bytes, escaped unless they are printable ASCII, so that an
/// iSCSI name is readable. Older Linux targets send malformed names with a session identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
#[error("malformed,{}", bytes.escape_ascii())]
pub struct MalformedTransportId {
    bytes: Box<[u8]>,
    #[source]
    error: TransportIdError,
}

impl MalformedTransportId {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the reason that the bytes are not a TransportID.
    #[must_use]
    pub const fn error(&self) -> TransportIdError {
        self.error
    }
}

impl FullStatusDescriptor {
    fn encode(&self) -> Vec<u8> {
        let id = match &self.transport_id {
            Ok(id) => id.encode(),
            Err(malformed) => malformed.bytes.to_vec(),
        };
        let flags = wire::flags([(self.all_tg_pt, ALL_TG_PT), (self.holder, R_HOLDER)]);
        let mut bytes = self.key.get().to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 0, flags, self.scope_type.0, 0, 0, 0, 0]);
        bytes.extend(self.relative_target_port.get().to_be_bytes());
        bytes.extend(wire::length_to_field(id.len()).to_be_bytes());
        bytes.extend(id);
        bytes
    }
}

/// An iterator over the complete descriptors of a list that can be truncated.
struct Descriptors<'a> {
    /// The present bytes that are not read yet.
    fields: Reader<'a>,
    /// Number of bytes of the device's list that are not read yet, present or not.
    left: usize,
    /// Offset of the next descriptor in bytes from the beginning of the data.
    offset: usize,
}

impl Iterator for Descriptors<'_> {
    type Item = Result<FullStatusDescriptor, ParameterDataError>;

    /// Returns the next descriptor, or an error if it exceeds the device's list.
    fn next(&mut self) -> Option<Self::Item> {
        let overrun = ParameterDataError::Descriptor {
            offset: self.offset,
        };
        if (1..DESCRIPTOR_HEADER_LENGTH).contains(&self.left) {
            return Some(Err(overrun));
        }
        let key = self.fields.u64()?.into();
        self.fields.skip(4)?;
        let [flags, scope_type] = self.fields.array()?;
        self.fields.skip(4)?;
        let relative_target_port = self.fields.u16()?.into();
        let additional_length = wire::length_from_field(self.fields.u32()?);
        let length = DESCRIPTOR_HEADER_LENGTH.saturating_add(additional_length);
        let Some(left) = self.left.checked_sub(length) else {
            return Some(Err(overrun));
        };
        let id = self.fields.bytes(additional_length)?;
        self.left = left;
        self.offset = self.offset.saturating_add(length);
        Some(Ok(FullStatusDescriptor {
            key,
            all_tg_pt: flags & ALL_TG_PT != 0,
            holder: flags & R_HOLDER != 0,
            scope_type: ScopeType(scope_type),
            relative_target_port,
            transport_id: TransportId::decode(id).map_err(|error| MalformedTransportId {
                bytes: id.into(),
                error,
            }),
        }))
    }
}

impl FullStatus {
    /// Decodes parameter data. Bytes after the list are ignored.
    ///
    /// # Errors
    ///
    /// * [`ParameterDataError::TooShort`] if the header is incomplete.
    /// * [`ParameterDataError::Descriptor`] if a descriptor exceeds the list.
    pub fn decode(bytes: &[u8]) -> Result<Truncatable<Self>, ParameterDataError> {
        let list = List::decode(bytes)?;
        let descriptors = Descriptors {
            fields: Reader::new(list.body),
            left: list.length,
            offset: super::HEADER_LENGTH,
        };
        Ok(Truncatable {
            value: FullStatus {
                generation: list.generation,
                descriptors: descriptors.collect::<Result<_, _>>()?,
            },
            missing: list.missing(),
        })
    }

    /// Encodes the complete parameter data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let descriptors = self.descriptors.iter();
        let body: Vec<u8> = descriptors.flat_map(FullStatusDescriptor::encode).collect();
        encode_list(self.generation, &body)
    }
}

impl fmt::Display for FullStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.descriptors.len();
        write!(f, "generation {}, {count} registrations", self.generation)?;
        self.descriptors
            .iter()
            .try_for_each(|descriptor| write!(f, "; {descriptor}"))
    }
}

impl fmt::Display for FullStatusDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}, ", self.key)?;
        match &self.transport_id {
            Ok(id) => id.fmt(f)?,
            Err(malformed) => malformed.fmt(f)?,
        }
        match self.all_tg_pt {
            true => f.write_str(", all target ports")?,
            false => write!(f, ", target port {}", self.relative_target_port)?,
        }
        match self.holder {
            true => write!(f, ", holder, type {}", self.scope_type),
            false => Ok(()),
        }
    }
}
