// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sense data: the reason that a command ended with CHECK CONDITION, in both formats.
//!
//! Source: SPC-4, 4.5.2 (descriptor format) and 4.5.3 (fixed format).

mod codes;

use std::fmt;

use thiserror::Error;

use crate::wire::Reader;

pub use codes::AdditionalSense;

/// RESPONSE CODE: the low seven bits of byte 0.
const RESPONSE_CODE_MASK: u8 = 0x7f;
const FIXED_CURRENT: u8 = 0x70;
const FIXED_DEFERRED: u8 = 0x71;
const DESCRIPTOR_CURRENT: u8 = 0x72;
const DESCRIPTOR_DEFERRED: u8 = 0x73;

/// Length in bytes of the fields up to and including ADDITIONAL SENSE LENGTH, in both formats.
const HEADER_LENGTH: usize = 8;
/// VALID: the high bit of byte 0 (fixed format), and of byte 2 of an information descriptor.
const VALID: u8 = 0x80;
const INFORMATION_DESCRIPTOR: u8 = 0x00;
const SENSE_KEY_SPECIFIC_DESCRIPTOR: u8 = 0x02;

wire_enum! {
    /// SENSE KEY: the category of a failure (SPC-4, 4.5.6).
    #[derive(Default)]
    pub enum SenseKey {
        /// 0h: nothing to report.
        #[default]
        NoSense = 0x0, "NO SENSE";
        /// 1h: the command succeeded after the device recovered from an error.
        RecoveredError = 0x1, "RECOVERED ERROR";
        /// 2h: the logical unit is not accessible now.
        NotReady = 0x2, "NOT READY";
        /// 3h: a flaw in the medium or in the recorded data.
        MediumError = 0x3, "MEDIUM ERROR";
        /// 4h: a failure that does not concern the medium.
        HardwareError = 0x4, "HARDWARE ERROR";
        /// 5h: the command, its parameters or the logical unit number are invalid.
        IllegalRequest = 0x5, "ILLEGAL REQUEST";
        /// 6h: an event that this initiator port must know of. The command was not executed.
        UnitAttention = 0x6, "UNIT ATTENTION";
        /// 7h: the data is protected against this access.
        DataProtect = 0x7, "DATA PROTECT";
        /// 8h: an unexpected blank or unformatted medium.
        BlankCheck = 0x8, "BLANK CHECK";
        /// 9h: vendor specific.
        VendorSpecific = 0x9, "VENDOR SPECIFIC";
        /// ah: a third-party copy stopped.
        CopyAborted = 0xa, "COPY ABORTED";
        /// bh: the device aborted the command. It can be sent again.
        AbortedCommand = 0xb, "ABORTED COMMAND";
        /// ch: reserved.
        Reserved = 0xc, "RESERVED SENSE KEY";
        /// dh: data is left in the buffer at the end of the medium.
        VolumeOverflow = 0xd, "VOLUME OVERFLOW";
        /// eh: the data differ from those on the medium.
        Miscompare = 0xe, "MISCOMPARE";
        /// fh: a sense descriptor has the result of a completed command.
        Completed = 0xf, "COMPLETED";
    }
}

impl SenseKey {
    /// Returns the key in the low four bits of a byte. The high bits are other fields.
    #[must_use]
    pub const fn from_low_bits(byte: u8) -> Self {
        match Self::from_code(byte & 0x0f) {
            Some(key) => key,
            // Every number of four bits has a key.
            None => SenseKey::Reserved,
        }
    }
}

/// The field that the device rejected (SPC-4, 4.5.2.4.2). Only with ILLEGAL REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// `true` if the field is in the CDB, `false` if it is in the parameter list.
    pub in_cdb: bool,
    /// Offset of the invalid byte, or of the first byte of the field.
    pub byte: u16,
    /// Highest bit of the field, 0 to 7, if the device reported it.
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
        let location = if self.in_cdb {
            Self::COMMAND_OR_DATA
        } else {
            0
        };
        let bit = self
            .bit
            .map_or(0, |bit| Self::BIT_POINTER_VALID | (bit & Self::BIT_MASK));
        let [high, low] = self.byte.to_be_bytes();
        [Self::SENSE_KEY_SPECIFIC_VALID | location | bit, high, low]
    }
}

impl fmt::Display for FieldPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = if self.in_cdb { "CDB" } else { "parameter list" };
        write!(f, "{location} byte {}", self.byte)?;
        self.bit.map_or(Ok(()), |bit| write!(f, " bit {bit}"))
    }
}

/// Decoded sense data.
///
/// ```
/// # use scsi_pr::{AdditionalSense, Sense, SenseKey};
/// let sense = Sense::new(SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_CDB);
/// assert_eq!(sense.to_string(), "ILLEGAL REQUEST, INVALID FIELD IN CDB (5/24/00)");
/// assert_eq!(Sense::decode(&sense.to_fixed()), Ok(sense));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sense {
    /// Category of the failure.
    pub key: SenseKey,
    /// Exact reason for the failure.
    pub code: AdditionalSense,
    /// `true` if the sense data concerns an earlier command that ended with GOOD.
    pub deferred: bool,
    /// INFORMATION, if the device marked it as valid. Its meaning depends on the command.
    pub information: Option<u64>,
    /// Rejected field, if the key is ILLEGAL REQUEST and the device reported the field.
    pub field_pointer: Option<FieldPointer>,
}

impl Sense {
    /// Creates sense data of the current command that has only key and code.
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

    /// Returns this sense data with a field pointer added.
    #[must_use]
    pub const fn with_field_pointer(mut self, field_pointer: FieldPointer) -> Self {
        self.field_pointer = Some(field_pointer);
        self
    }

    /// Decodes sense data of either format.
    ///
    /// Sense data can be short, because of its ADDITIONAL SENSE LENGTH or because a host adapter
    /// truncated it. A missing field counts as zero, as does one beyond the additional length.
    /// Unknown descriptors are skipped.
    ///
    /// # Errors
    ///
    /// * [`SenseError::TooShort`] if the sense key is missing.
    /// * [`SenseError::ResponseCode`] if byte 0 does not belong to sense data.
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
        // A missing field is not valid, even if VALID is set.
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
        let (asc, ascq) = (byte(2), byte(3));
        let mut sense = Sense::new(key, AdditionalSense { asc, ascq });
        sense.deferred = byte(0) & RESPONSE_CODE_MASK == DESCRIPTOR_DEFERRED;
        let mut descriptors = Reader::new(bytes.get(HEADER_LENGTH..).unwrap_or_default());
        while let Some((kind, body)) = next_descriptor(&mut descriptors) {
            sense.apply_descriptor(kind, body);
        }
        Some(sense)
    }

    /// Applies a sense data descriptor. `body` begins after its length.
    fn apply_descriptor(&mut self, kind: u8, body: &[u8]) {
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

    /// Encodes the sense data in fixed format.
    ///
    /// INFORMATION has four bytes in this format. A larger value is omitted.
    #[must_use]
    pub fn to_fixed(&self) -> [u8; 18] {
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let valid = if information.is_some() { VALID } else { 0 };
        let response = valid | self.response_code(FIXED_CURRENT, FIXED_DEFERRED);
        let [i0, i1, i2, i3] = information.unwrap_or(0).to_be_bytes();
        let [s0, s1, s2] = self.field_pointer.map_or([0; 3], FieldPointer::encode);
        let key = self.key.code();
        let AdditionalSense { asc, ascq } = self.code;
        // Byte 7 is ADDITIONAL SENSE LENGTH: 10 bytes follow it.
        #[rustfmt::skip]
        let sense = [response, 0, key, i0, i1, i2, i3, 10, 0, 0, 0, 0, asc, ascq, 0, s0, s1, s2];
        sense
    }

    /// Encodes the sense data in descriptor format: 8 bytes, 12 more with INFORMATION, and 8 more
    /// with a field pointer.
    #[must_use]
    pub fn to_descriptor(&self) -> Vec<u8> {
        let response = self.response_code(DESCRIPTOR_CURRENT, DESCRIPTOR_DEFERRED);
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
        // The two descriptors have at most 20 bytes.
        let length = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![response, self.key.code(), asc, ascq, 0, 0, 0, length];
        bytes.append(&mut descriptors);
        bytes
    }

    const fn response_code(&self, current: u8, deferred: u8) -> u8 {
        if self.deferred { deferred } else { current }
    }
}

/// Decodes SENSE KEY SPECIFIC, which is a field pointer only with ILLEGAL REQUEST.
fn field_pointer(key: SenseKey, specific: [u8; 3]) -> Option<FieldPointer> {
    (key == SenseKey::IllegalRequest)
        .then(|| FieldPointer::decode(specific))
        .flatten()
}

/// Returns the part of sense data that its ADDITIONAL SENSE LENGTH covers.
fn within_additional_length(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .get(7)
        .map(|additional| HEADER_LENGTH.saturating_add(usize::from(*additional)));
    length
        .and_then(|length| bytes.get(..length))
        .unwrap_or(bytes)
}

/// Returns the type of the next sense data descriptor, and the bytes after its length.
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

/// The reason that bytes are not sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SenseError {
    /// The sense key is missing.
    #[error("sense data of {length} bytes has no sense key")]
    TooShort {
        /// Length of the sense data in bytes.
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
    fn sense_key_codes_round_trip() {
        for (code, key) in (0..).zip(SenseKey::ALL) {
            assert_eq!(key.code(), code);
            assert_eq!(SenseKey::from_low_bits(0xf0 | code), key);
        }
    }

    #[test]
    fn truncated_information_is_not_valid() {
        for bytes in [&[0xf0, 0, 6][..], &[0xf0, 0, 6, 0, 0, 1]] {
            assert_eq!(Sense::decode(bytes).unwrap().information, None);
        }
        let whole = [0xf0, 0, 6, 0, 0, 1, 0];
        assert_eq!(Sense::decode(&whole).unwrap().information, Some(0x100));
    }
}
