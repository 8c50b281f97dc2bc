//! The answer to READ RESERVATION.

use std::fmt;

use super::{ParameterDataError, list};
use crate::ids::{PrGeneration, ReservationKey};
use crate::reservation::ScopeType;
use crate::wire::Reader;

/// Bytes of a reservation descriptor.
const DESCRIPTOR_LENGTH: usize = 16;

/// Whether there is a reservation, and which (SPC-4, 6.15.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReservationData {
    /// The generation of the registrations.
    pub generation: PrGeneration,
    /// The reservation, if there is one.
    pub reservation: Option<ReservationDescriptor>,
}

/// A persistent reservation (SPC-4, 6.15.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationDescriptor {
    /// The key of the holder; zero where all registrants hold it.
    pub key: ReservationKey,
    /// Its scope and type.
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
    /// Reads parameter data; bytes after the reservation are ignored.
    ///
    /// # Errors
    ///
    /// [`ParameterDataError`]: there is no header, the length is that of no reservation or one, or
    /// the answer is cut off. There is no incomplete value: it would look like "no reservation".
    pub fn decode(bytes: &[u8]) -> Result<Self, ParameterDataError> {
        let list = list::List::decode(bytes)?;
        let reservation = match list.length {
            0 => None,
            DESCRIPTOR_LENGTH => {
                let descriptor = ReservationDescriptor::decode(Reader::new(list.body));
                Some(descriptor.ok_or(ParameterDataError::TooShort {
                    needed: list::HEADER_LENGTH.saturating_add(DESCRIPTOR_LENGTH),
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

    /// The whole of the parameter data: 8 bytes, or 24 with a reservation.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = self.reservation.map(|reservation| reservation.encode());
        list::encode(self.generation, &body.unwrap_or_default())
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
