//! Sense data: why a command ended with CHECK CONDITION, in both of its formats.
//!
//! Source: SPC-4, 4.5.2 (descriptor format) and 4.5.3 (fixed format).

mod codes;
mod key;

use std::fmt;

use thiserror::Error;

use crate::wire::Reader;

pub use codes::AdditionalSense;
pub use key::SenseKey;

/// RESPONSE CODE: the low seven bits of byte 0.
const RESPONSE_CODE_MASK: u8 = 0x7f;
const FIXED_CURRENT: u8 = 0x70;
const FIXED_DEFERRED: u8 = 0x71;
const DESCRIPTOR_CURRENT: u8 = 0x72;
const DESCRIPTOR_DEFERRED: u8 = 0x73;

/// Bytes up to and including ADDITIONAL SENSE LENGTH, in both formats.
const HEADER_LENGTH: usize = 8;
/// VALID: the high bit of byte 0 (fixed), and of byte 2 of an information descriptor.
const VALID: u8 = 0x80;
const INFORMATION_DESCRIPTOR: u8 = 0x00;
const SENSE_KEY_SPECIFIC_DESCRIPTOR: u8 = 0x02;

/// The field that the device found wrong (SPC-4, 4.5.2.4.2). Only with ILLEGAL REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// Whether the field is in the CDB; otherwise it is in the parameter list.
    pub in_cdb: bool,
    /// Offset of the byte that is wrong, or of the first byte of the field.
    pub byte: u16,
    /// The highest bit of the field, 0 to 7, where the device said which.
    pub bit: Option<u8>,
}

impl FieldPointer {
    const SENSE_KEY_SPECIFIC_VALID: u8 = 0x80;
    const COMMAND_OR_DATA: u8 = 0x40;
    const BIT_POINTER_VALID: u8 = 0x08;
    const BIT_MASK: u8 = 0x07;

    fn decode([flags, high, low]: [u8; 3]) -> Option<Self> {
        (flags & Self::SENSE_KEY_SPECIFIC_VALID != 0).then_some(FieldPointer {
            in_cdb: flags & Self::COMMAND_OR_DATA != 0,
            byte: u16::from_be_bytes([high, low]),
            bit: (flags & Self::BIT_POINTER_VALID != 0).then_some(flags & Self::BIT_MASK),
        })
    }

    fn encode(self) -> [u8; 3] {
        let place = if self.in_cdb {
            Self::COMMAND_OR_DATA
        } else {
            0
        };
        let bit = self
            .bit
            .map_or(0, |bit| Self::BIT_POINTER_VALID | (bit & Self::BIT_MASK));
        let [high, low] = self.byte.to_be_bytes();
        [Self::SENSE_KEY_SPECIFIC_VALID | place | bit, high, low]
    }
}

impl fmt::Display for FieldPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.in_cdb { "CDB" } else { "parameter list" };
        write!(f, "{place} byte {}", self.byte)?;
        self.bit.map_or(Ok(()), |bit| write!(f, " bit {bit}"))
    }
}

/// What sense data says.
///
/// ```
/// # use scsi_pr::{AdditionalSense, Sense, SenseKey};
/// let sense = Sense::new(SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_CDB);
/// assert_eq!(sense.to_string(), "ILLEGAL REQUEST, INVALID FIELD IN CDB (5/24/00)");
/// assert_eq!(Sense::decode(&sense.to_fixed()), Ok(sense));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sense {
    /// The kind of trouble.
    pub key: SenseKey,
    /// The exact trouble.
    pub code: AdditionalSense,
    /// Whether it is about an earlier command that had already been answered with GOOD.
    pub deferred: bool,
    /// INFORMATION, where the device marked it as valid: its meaning depends on the command.
    pub information: Option<u64>,
    /// The field that is wrong, where the key is ILLEGAL REQUEST and the device said which.
    pub field_pointer: Option<FieldPointer>,
}

impl Sense {
    /// Sense of the current command with no more than key and code.
    #[must_use]
    pub const fn new(key: SenseKey, code: AdditionalSense) -> Self {
        Sense {
            key,
            code,
            deferred: false,
            information: None,
            field_pointer: None,
        }
    }

    /// The same, pointing at a field.
    #[must_use]
    pub const fn with_field_pointer(mut self, field_pointer: FieldPointer) -> Self {
        self.field_pointer = Some(field_pointer);
        self
    }

    /// Reads sense data of either format.
    ///
    /// Sense data may be short: the device says so in ADDITIONAL SENSE LENGTH, or a host adapter
    /// has cut it off. A field that is not there is taken as zero, and so is one beyond the
    /// additional length. Descriptors that this crate does not know are skipped.
    ///
    /// # Errors
    ///
    /// [`SenseError`]: not even the sense key is there, or byte 0 says that it is no sense data.
    pub fn decode(bytes: &[u8]) -> Result<Self, SenseError> {
        let (response_code, meaningful) = match bytes {
            [] => return Err(SenseError::TooShort { length: 0 }),
            [first, ..] => (first & RESPONSE_CODE_MASK, within_additional_length(bytes)),
        };
        let too_short = SenseError::TooShort {
            length: bytes.len(),
        };
        match response_code {
            FIXED_CURRENT | FIXED_DEFERRED => Self::decode_fixed(meaningful).ok_or(too_short),
            DESCRIPTOR_CURRENT | DESCRIPTOR_DEFERRED => {
                Self::decode_descriptors(meaningful).ok_or(too_short)
            }
            other => Err(SenseError::ResponseCode(other)),
        }
    }

    fn decode_fixed(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let key = SenseKey::from_low_bits(*bytes.get(2)?);
        let byte = |offset: usize| bytes.get(offset).copied().unwrap_or(0);
        // What is not there is not valid, whatever VALID says.
        let information = bytes.get(3..).and_then(<[u8]>::first_chunk).copied();
        let information = information.map(|bytes| u64::from(u32::from_be_bytes(bytes)));
        Some(Sense {
            key,
            code: AdditionalSense {
                asc: byte(12),
                ascq: byte(13),
            },
            deferred: first & RESPONSE_CODE_MASK == FIXED_DEFERRED,
            information: information.filter(|_| first & VALID != 0),
            field_pointer: field_pointer(key, [byte(15), byte(16), byte(17)]),
        })
    }

    fn decode_descriptors(bytes: &[u8]) -> Option<Self> {
        let key = SenseKey::from_low_bits(*bytes.get(1)?);
        let byte = |offset: usize| bytes.get(offset).copied().unwrap_or(0);
        let mut sense = Sense {
            deferred: byte(0) & RESPONSE_CODE_MASK == DESCRIPTOR_DEFERRED,
            ..Sense::new(
                key,
                AdditionalSense {
                    asc: byte(2),
                    ascq: byte(3),
                },
            )
        };
        let mut descriptors = Reader::new(bytes.get(HEADER_LENGTH..).unwrap_or_default());
        while let Some((kind, body)) = next_descriptor(&mut descriptors) {
            sense.take_descriptor(kind, body);
        }
        Some(sense)
    }

    /// Notes what a sense data descriptor says; `body` begins after its length.
    fn take_descriptor(&mut self, kind: u8, body: &[u8]) {
        let mut fields = Reader::new(body);
        match (kind, fields.array()) {
            (INFORMATION_DESCRIPTOR, Some([flags, _])) if flags & VALID != 0 => {
                self.information = fields.u64();
            }
            (SENSE_KEY_SPECIFIC_DESCRIPTOR, Some([_, _])) => {
                self.field_pointer = fields
                    .array()
                    .and_then(|specific| field_pointer(self.key, specific));
            }
            _ => {}
        }
    }

    /// Fixed format, 18 bytes.
    ///
    /// INFORMATION has four bytes here; a larger value is left out.
    #[must_use]
    pub fn to_fixed(&self) -> [u8; 18] {
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let valid = if information.is_some() { VALID } else { 0 };
        let response = if self.deferred {
            FIXED_DEFERRED
        } else {
            FIXED_CURRENT
        };
        let [i0, i1, i2, i3] = information.unwrap_or(0).to_be_bytes();
        let [s0, s1, s2] = self.field_pointer.map_or([0; 3], FieldPointer::encode);
        let key = self.key.code();
        let AdditionalSense { asc, ascq } = self.code;
        // Byte 7 is ADDITIONAL SENSE LENGTH: 10 bytes follow it.
        [
            valid | response,
            0,
            key,
            i0,
            i1,
            i2,
            i3,
            10,
            0,
            0,
            0,
            0,
            asc,
            ascq,
            0,
            s0,
            s1,
            s2,
        ]
    }

    /// Descriptor format: 8 bytes, 12 more with INFORMATION and 8 more with a field pointer.
    #[must_use]
    pub fn to_descriptor(&self) -> Vec<u8> {
        let response = if self.deferred {
            DESCRIPTOR_DEFERRED
        } else {
            DESCRIPTOR_CURRENT
        };
        let mut descriptors = Vec::new();
        if let Some(information) = self.information {
            descriptors.extend([INFORMATION_DESCRIPTOR, 10, VALID, 0]);
            descriptors.extend(information.to_be_bytes());
        }
        if let Some(pointer) = self.field_pointer {
            descriptors.extend([SENSE_KEY_SPECIFIC_DESCRIPTOR, 6, 0, 0]);
            descriptors.extend(pointer.encode());
            descriptors.push(0);
        }
        let AdditionalSense { asc, ascq } = self.code;
        // The two descriptors have 20 bytes at most.
        let length = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![response, self.key.code(), asc, ascq, 0, 0, 0, length];
        bytes.append(&mut descriptors);
        bytes
    }
}

/// SENSE KEY SPECIFIC is a field pointer with ILLEGAL REQUEST, and something else with other keys.
fn field_pointer(key: SenseKey, specific: [u8; 3]) -> Option<FieldPointer> {
    (key == SenseKey::IllegalRequest)
        .then(|| FieldPointer::decode(specific))
        .flatten()
}

/// The part of sense data that its ADDITIONAL SENSE LENGTH says is there.
fn within_additional_length(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .get(7)
        .map(|additional| HEADER_LENGTH.saturating_add(usize::from(*additional)));
    length
        .and_then(|length| bytes.get(..length))
        .unwrap_or(bytes)
}

/// The next sense data descriptor: its type, and what follows its length.
fn next_descriptor<'a>(descriptors: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let [kind, length] = descriptors.array()?;
    Some((kind, descriptors.bytes(usize::from(length))?))
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdditionalSense { asc, ascq } = self.code;
        let key = self.key.code();
        write!(
            f,
            "{}, {} ({key:x}/{asc:02x}/{ascq:02x})",
            self.key, self.code
        )?;
        if self.deferred {
            f.write_str(", deferred")?;
        }
        if let Some(information) = self.information {
            write!(f, ", information {information:#x}")?;
        }
        self.field_pointer
            .map_or(Ok(()), |pointer| write!(f, ", {pointer}"))
    }
}

/// Why bytes are no sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SenseError {
    /// The sense key is not there.
    #[error("sense data of {length} bytes has no sense key")]
    TooShort {
        /// How many bytes were given.
        length: usize,
    },
    /// The response code is reserved or vendor specific.
    #[error("response code {0:#04x} is not that of sense data")]
    ResponseCode(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_that_is_not_there_is_not_valid() {
        for bytes in [&[0xf0, 0, 6][..], &[0xf0, 0, 6, 0, 0, 1]] {
            assert_eq!(Sense::decode(bytes).unwrap().information, None);
        }
        let whole = [0xf0, 0, 6, 0, 0, 1, 0];
        assert_eq!(Sense::decode(&whole).unwrap().information, Some(0x100));
    }
}
