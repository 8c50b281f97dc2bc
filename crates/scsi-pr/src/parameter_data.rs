// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parameter data: the data that a device returns for PERSISTENT RESERVE IN.
//!
//! Source: SPC-4, 6.15.2 to 6.15.5. This file has the errors, the frame that READ KEYS, READ
//! RESERVATION and READ FULL STATUS share, and the data of the first two.

mod capabilities;
mod full_status;

use std::fmt;

use thiserror::Error;

use crate::ids::{PrGeneration, ReservationKey};
use crate::reservation::ScopeType;
use crate::wire::{self, Reader};

pub use capabilities::{AllowCommands, Capabilities, TypeMask};
pub use full_status::{FullStatus, FullStatusDescriptor, MalformedTransportId};

/// Length of PRGENERATION and ADDITIONAL LENGTH in bytes.
const HEADER_LENGTH: usize = 8;
/// Length of a key in bytes.
const KEY_LENGTH: usize = 8;
/// Length of a reservation descriptor in bytes.
const RESERVATION_LENGTH: usize = 16;

/// The reason that bytes are not parameter data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParameterDataError {
    /// The data is too short to be decoded.
    #[error("parameter data too short: {given} of {needed} bytes")]
    TooShort {
        /// Minimum length in bytes.
        needed: usize,
        /// Length of the given data in bytes.
        given: usize,
    },
    /// ADDITIONAL LENGTH, or LENGTH, has a value that is impossible for this data.
    #[error("invalid length field {0}")]
    Length(usize),
    /// A full status descriptor exceeds ADDITIONAL LENGTH.
    #[error("full status descriptor at offset {offset} exceeds the additional length")]
    Descriptor {
        /// Offset of the descriptor in bytes from the beginning of the data.
        offset: usize,
    },
}

/// A list that can be truncated, because it is longer than the allocation length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Truncatable<T> {
    /// The complete elements.
    pub value: T,
    /// Number of bytes that the device had in addition to the given ones. Zero if nothing is
    /// missing.
    pub missing: usize,
}

impl<T> Truncatable<T> {
    /// Returns `true` if nothing is missing.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Returns the value if nothing is missing.
    #[must_use]
    pub fn complete(self) -> Option<T> {
        (self.missing == 0).then_some(self.value)
    }
}

impl<T: fmt::Display> fmt::Display for Truncatable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        match self.missing {
            0 => Ok(()),
            missing => write!(f, ", {missing} bytes truncated"),
        }
    }
}

/// Returns the part of parameter data that a command with this allocation length receives.
///
/// Length fields in the data keep their values (SPC-4, 4.2.5.6), so the reader learns the full
/// length.
///
/// ```
/// # use scsi_pr::{Keys, ReservationKey, truncate};
/// let keys = vec![ReservationKey::new(1), ReservationKey::new(2)];
/// let keys = Keys { keys, ..Keys::default() };
/// let read = Keys::decode(truncate(&keys.encode(), 20))?;
/// assert_eq!(read.value.keys, [ReservationKey::new(1)]);
/// assert_eq!(read.missing, 4);
/// # Ok::<(), scsi_pr::ParameterDataError>(())
/// ```
#[must_use]
pub fn truncate(data: &[u8], allocation_length: u16) -> &[u8] {
    data.get(..usize::from(allocation_length)).unwrap_or(data)
}

/// A generation, and the part of a list that is present.
struct List<'a> {
    generation: PrGeneration,
    /// The list as far as it is present, without the bytes after its end.
    body: &'a [u8],
    /// ADDITIONAL LENGTH: the length in bytes of the device's list.
    length: usize,
}

impl<'a> List<'a> {
    /// Finds the list in parameter data. Fails if the header is incomplete.
    fn decode(bytes: &'a [u8]) -> Result<Self, ParameterDataError> {
        let mut fields = Reader::new(bytes);
        let (Some(generation), Some(length)) = (fields.u32(), fields.u32()) else {
            return Err(ParameterDataError::TooShort {
                needed: HEADER_LENGTH,
                given: bytes.len(),
            });
        };
        let (length, rest) = (wire::length_from_field(length), fields.rest());
        Ok(List {
            generation: generation.into(),
            body: rest.get(..length).unwrap_or(rest),
            length,
        })
    }

    /// Returns the number of bytes of the list that are missing.
    fn missing(&self) -> usize {
        self.length.saturating_sub(self.body.len())
    }
}

/// Encodes parameter data with this list.
fn encode_list(generation: PrGeneration, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH.saturating_add(body.len()));
    bytes.extend(generation.get().to_be_bytes());
    bytes.extend(wire::length_to_field(body.len()).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The data of READ KEYS (SPC-4, 6.15.2): the key of each registration. Several registrations can
/// have the same key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keys {
    /// Generation of the registrations.
    pub generation: PrGeneration,
    /// Keys in the device's order.
    pub keys: Vec<ReservationKey>,
}

impl Keys {
    /// Decodes parameter data. Bytes after the list are ignored.
    ///
    /// # Errors
    ///
    /// * [`ParameterDataError::TooShort`] if the header is incomplete.
    /// * [`ParameterDataError::Length`] if the length of the list is not a multiple of 8.
    pub fn decode(bytes: &[u8]) -> Result<Truncatable<Self>, ParameterDataError> {
        let list = List::decode(bytes)?;
        if !list.length.is_multiple_of(KEY_LENGTH) {
            return Err(ParameterDataError::Length(list.length));
        }
        let (keys, _) = list.body.as_chunks::<KEY_LENGTH>();
        let keys = keys.iter().map(|key| u64::from_be_bytes(*key).into());
        Ok(Truncatable {
            value: Keys {
                generation: list.generation,
                keys: keys.collect(),
            },
            missing: list.missing(),
        })
    }

    /// Encodes the complete parameter data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let keys = self.keys.iter().map(|key| key.get().to_be_bytes());
        encode_list(self.generation, keys.collect::<Vec<_>>().as_flattened())
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.keys.len();
        write!(f, "generation {}, {count} keys", self.generation)?;
        self.keys.iter().try_for_each(|key| write!(f, " {key}"))
    }
}

/// The data of READ RESERVATION (SPC-4, 6.15.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReservationData {
    /// Generation of the registrations.
    pub generation: PrGeneration,
    /// Reservation, or `None` if there is none.
    pub reservation: Option<ReservationDescriptor>,
}

/// A persistent reservation (SPC-4, 6.15.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationDescriptor {
    /// Key of the holder. Zero if all registrants are holders.
    pub key: ReservationKey,
    /// Scope and type of the reservation.
    pub scope_type: ScopeType,
}

impl ReservationDescriptor {
    fn decode(mut fields: Reader<'_>) -> Option<Self> {
        let key = fields.u64()?.into();
        // SPC-2's scope-specific address, and a reserved byte.
        fields.skip(5)?;
        let scope_type = ScopeType(fields.u8()?);
        // SPC-2's extent length.
        fields.skip(2)?;
        Some(ReservationDescriptor { key, scope_type })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.key.get().to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 0, 0, self.scope_type.0, 0, 0]);
        bytes
    }
}

impl ReservationData {
    /// Decodes parameter data. Bytes after the reservation are ignored.
    ///
    /// # Errors
    ///
    /// * [`ParameterDataError::TooShort`] if the data is truncated. There is no incomplete value,
    ///   because it would look like "no reservation".
    /// * [`ParameterDataError::Length`] if the length is neither 0 nor that of one reservation.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParameterDataError> {
        let list = List::decode(bytes)?;
        let reservation = match list.length {
            0 => None,
            RESERVATION_LENGTH => {
                let descriptor = ReservationDescriptor::decode(Reader::new(list.body));
                Some(descriptor.ok_or(ParameterDataError::TooShort {
                    needed: HEADER_LENGTH.saturating_add(RESERVATION_LENGTH),
                    given: bytes.len(),
                })?)
            }
            other => return Err(ParameterDataError::Length(other)),
        };
        Ok(ReservationData {
            generation: list.generation,
            reservation,
        })
    }

    /// Encodes the complete parameter data: 8 bytes, or 24 with a reservation.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = self.reservation.map(|reservation| reservation.encode());
        encode_list(self.generation, &body.unwrap_or_default())
    }
}

impl fmt::Display for ReservationData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, ", self.generation)?;
        match &self.reservation {
            Some(reservation) => reservation.fmt(f),
            None => f.write_str("no reservation"),
        }
    }
}

impl fmt::Display for ReservationDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reservation key {}, type {}", self.key, self.scope_type)
    }
}
