//! The answer to READ FULL STATUS.

use std::fmt;

use thiserror::Error;

use super::list::{self, List};
use super::{ParameterDataError, Truncatable};
use crate::ids::{PrGeneration, RelativeTargetPort, ReservationKey};
use crate::reservation::ScopeType;
use crate::transport_id::{TransportId, TransportIdError};
use crate::wire::{self, Reader};

const ALL_TG_PT: u8 = 0x02;
const R_HOLDER: u8 = 0x01;

/// All registrations, and which of them hold the reservation (SPC-4, 6.15.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FullStatus {
    /// The generation of the registrations.
    pub generation: PrGeneration,
    /// The registrations in the device's order.
    pub descriptors: Vec<FullStatusDescriptor>,
}

/// One registration: of one initiator port at one target port, or at all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FullStatusDescriptor {
    /// The key that is registered.
    pub key: ReservationKey,
    /// Whether it was registered at all target ports at once (`ALL_TG_PT`).
    pub all_tg_pt: bool,
    /// Whether the registrant holds the reservation (`R_HOLDER`).
    pub holder: bool,
    /// Scope and type of the reservation; without meaning unless `holder` is set.
    pub scope_type: ScopeType,
    /// The target port; without meaning if `all_tg_pt` is set.
    pub relative_target_port: RelativeTargetPort,
    /// The initiator port. What a device got wrong is kept as it came, so that one bad name does
    /// not hide the other registrations.
    pub transport_id: Result<TransportId, MalformedTransportId>,
}

/// Bytes in the place of a TransportID that are none, as a device sent them.
///
/// Text is `malformed,` and the bytes, those that are not ASCII characters escaped: an iSCSI name is
/// readable that way. Older Linux targets send names with a session identifier like this.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
#[error("malformed,{}", bytes.escape_ascii())]
pub struct MalformedTransportId {
    bytes: Box<[u8]>,
    #[source]
    error: TransportIdError,
}

impl MalformedTransportId {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is wrong with them.
    #[must_use]
    pub const fn error(&self) -> TransportIdError {
        self.error
    }
}

/// Reads a TransportID, or keeps its bytes.
///
/// # Errors
///
/// [`MalformedTransportId`]: they are none.
fn decode_transport_id(bytes: &[u8]) -> Result<TransportId, MalformedTransportId> {
    TransportId::decode(bytes).map_err(|error| MalformedTransportId {
        bytes: bytes.into(),
        error,
    })
}

/// Bytes of a descriptor before its TransportID.
const HEADER_LENGTH: usize = 24;

/// What stands there.
struct Header {
    key: ReservationKey,
    flags: u8,
    scope_type: ScopeType,
    relative_target_port: RelativeTargetPort,
    additional_length: usize,
}

impl Header {
    fn decode(fields: &mut Reader<'_>) -> Option<Self> {
        let key = fields.u64()?.into();
        fields.skip(4)?;
        let [flags, scope_type] = fields.array()?;
        fields.skip(4)?;
        Some(Header {
            key,
            flags,
            scope_type: ScopeType(scope_type),
            relative_target_port: fields.u16()?.into(),
            additional_length: wire::length_from_field(fields.u32()?),
        })
    }
}

impl FullStatusDescriptor {
    fn new(header: &Header, transport_id: &[u8]) -> Self {
        FullStatusDescriptor {
            key: header.key,
            all_tg_pt: header.flags & ALL_TG_PT != 0,
            holder: header.flags & R_HOLDER != 0,
            scope_type: header.scope_type,
            relative_target_port: header.relative_target_port,
            transport_id: decode_transport_id(transport_id),
        }
    }

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

/// The descriptors of a list, of which the end may not be there.
struct Descriptors<'a> {
    /// What is there and not read yet.
    fields: Reader<'a>,
    /// How much of the device's list is not read yet, be it there or not.
    left: usize,
}

/// A descriptor goes on beyond the end of the device's list.
struct Overrun;

impl Iterator for Descriptors<'_> {
    type Item = Result<FullStatusDescriptor, Overrun>;

    /// The next descriptor that is there as a whole.
    fn next(&mut self) -> Option<Self::Item> {
        if (1..HEADER_LENGTH).contains(&self.left) {
            return Some(Err(Overrun));
        }
        let header = Header::decode(&mut self.fields)?;
        let length = HEADER_LENGTH.saturating_add(header.additional_length);
        let Some(left) = self.left.checked_sub(length) else {
            return Some(Err(Overrun));
        };
        let transport_id = self.fields.bytes(header.additional_length)?;
        self.left = left;
        Some(Ok(FullStatusDescriptor::new(&header, transport_id)))
    }
}

impl FullStatus {
    /// Reads parameter data; bytes after the list are ignored.
    ///
    /// # Errors
    ///
    /// [`ParameterDataError`]: there is no header, or a descriptor does not fit into the list.
    pub fn decode(bytes: &[u8]) -> Result<Truncatable<Self>, ParameterDataError> {
        let list = List::decode(bytes)?;
        let mut reader = Descriptors {
            fields: Reader::new(list.body),
            left: list.length,
        };
        let descriptors = reader.by_ref().collect::<Result<_, _>>();
        let read = list.length.saturating_sub(reader.left);
        let descriptors = descriptors.map_err(|Overrun| ParameterDataError::Descriptor {
            offset: list::HEADER_LENGTH.saturating_add(read),
        })?;
        Ok(Truncatable {
            value: FullStatus {
                generation: list.generation,
                descriptors,
            },
            missing: list.missing(),
        })
    }

    /// The whole of the parameter data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> = self
            .descriptors
            .iter()
            .flat_map(FullStatusDescriptor::encode)
            .collect();
        list::encode(self.generation, &body)
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
