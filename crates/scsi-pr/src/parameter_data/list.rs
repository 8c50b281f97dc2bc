//! The frame that READ KEYS, READ RESERVATION and READ FULL STATUS have in common.

use super::ParameterDataError;
use crate::ids::PrGeneration;
use crate::wire::{self, Reader};

/// Bytes of PRGENERATION and ADDITIONAL LENGTH.
pub(super) const HEADER_LENGTH: usize = 8;

/// A generation, and as much of a list as there is.
pub(super) struct List<'a> {
    pub(super) generation: PrGeneration,
    /// What there is of the list; bytes after its end are not in here.
    pub(super) body: &'a [u8],
    /// ADDITIONAL LENGTH: how many bytes the device's list has.
    pub(super) length: usize,
}

impl<'a> List<'a> {
    /// Finds the list in parameter data.
    ///
    /// # Errors
    ///
    /// [`ParameterDataError::TooShort`]: not even the header is there.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, ParameterDataError> {
        Self::split(Reader::new(bytes)).ok_or(ParameterDataError::TooShort {
            needed: HEADER_LENGTH,
            given: bytes.len(),
        })
    }

    fn split(mut fields: Reader<'a>) -> Option<Self> {
        let generation = fields.u32()?.into();
        let length = wire::length_from_field(fields.u32()?);
        let rest = fields.rest();
        Some(List {
            generation,
            body: rest.get(..length).unwrap_or(rest),
            length,
        })
    }

    /// How many bytes of the list are not there.
    pub(super) fn missing(&self) -> usize {
        self.length.saturating_sub(self.body.len())
    }
}

/// Parameter data with this list.
pub(super) fn encode(generation: PrGeneration, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH.saturating_add(body.len()));
    bytes.extend(generation.get().to_be_bytes());
    bytes.extend(wire::length_to_field(body.len()).to_be_bytes());
    bytes.extend(body);
    bytes
}
