// SPDX-License-Identifier: MIT OR Apache-2.0

//! The TransportID of an iSCSI initiator, the only one of variable length.
//!
//! Source: SPC-4, 7.6.4.6; names and session identifiers: RFC 7143.

use std::fmt;
use std::str::{self, FromStr};

use thiserror::Error;

use super::{FIXED_LENGTH, ProtocolIdentifier, TransportIdError};
use crate::hex::{self, HexError};
use crate::wire::Reader;

/// The separator between name and session identifier.
const SEPARATOR: &str = ",i,0x";
/// Length of the separator and the session identifier in bytes.
const ISID_LENGTH: usize = SEPARATOR.len() + Isid::DIGITS;
/// FORMAT CODE of a TransportID without and with a session identifier.
const FORMAT_DEVICE: u8 = 0b00;
const FORMAT_PORT: u8 = 0b01;
/// Length in bytes of FORMAT CODE and PROTOCOL IDENTIFIER, a reserved byte, and ADDITIONAL LENGTH.
const HEADER_LENGTH: usize = 4;
/// Minimum of ADDITIONAL LENGTH, which must be a multiple of [`ALIGNMENT`].
const MIN_ADDITIONAL_LENGTH: usize = FIXED_LENGTH - HEADER_LENGTH;
const ALIGNMENT: usize = 4;

/// An iSCSI initiator (a name), or one of its ports (a name and a session identifier).
///
/// The text form is the one on the wire: `iqn.1993-08.org.debian:01:abc,i,0x00023d000001`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IscsiTransportId {
    /// Name of the initiator node.
    pub name: IscsiName,
    /// Session identifier of the port, or `None` for the initiator as a whole.
    pub isid: Option<Isid>,
}

impl IscsiTransportId {
    /// Returns the length of the encoding in bytes: a multiple of 4, at least 24.
    pub(super) fn encoded_len(&self) -> usize {
        HEADER_LENGTH.saturating_add(self.additional_length())
    }

    fn additional_length(&self) -> usize {
        let isid = if self.isid.is_some() { ISID_LENGTH } else { 0 };
        // The text always ends with at least one NUL.
        let terminated = self.name.0.len().saturating_add(isid).saturating_add(1);
        terminated
            .next_multiple_of(ALIGNMENT)
            .max(MIN_ADDITIONAL_LENGTH)
    }

    /// Encodes the TransportID.
    pub(super) fn encode(&self) -> Vec<u8> {
        let format = match self.isid {
            Some(_) => FORMAT_PORT,
            None => FORMAT_DEVICE,
        };
        // A name has at most 223 bytes, so the length always fits.
        let length = u16::try_from(self.additional_length()).unwrap_or(u16::MAX);
        let mut bytes = vec![format << 6 | ProtocolIdentifier::ISCSI.code(), 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.to_string().bytes());
        bytes.resize(self.encoded_len(), 0);
        bytes
    }

    /// Decodes the TransportID at the front of `bytes`. Returns its length in bytes, too.
    pub(super) fn decode(format: u8, bytes: &[u8]) -> Result<(Self, usize), TransportIdError> {
        let length = wire_length(bytes)?;
        let too_short = TransportIdError::TooShort {
            needed: length,
            given: bytes.len(),
        };
        let text = bytes.get(HEADER_LENGTH..length).ok_or(too_short)?;
        let id = match format {
            FORMAT_DEVICE => IscsiTransportId {
                name: IscsiName::from_bytes(until_nul(text))?,
                isid: None,
            },
            FORMAT_PORT => Self::decode_port(text)?,
            format => {
                let protocol = ProtocolIdentifier::ISCSI;
                return Err(TransportIdError::ReservedFormat { protocol, format });
            }
        };
        Ok((id, length))
    }

    /// Decodes the text of a TransportID with a session identifier.
    fn decode_port(text: &[u8]) -> Result<Self, TransportIdError> {
        let (name, isid) = split_separator(text).ok_or(TransportIdError::IscsiSeparator)?;
        let isid = str::from_utf8(until_nul(isid)).map_err(|_| IsidError::Text)?;
        Ok(IscsiTransportId {
            name: IscsiName::from_bytes(name)?,
            isid: Some(isid.parse()?),
        })
    }
}

/// Returns the length in bytes of the TransportID at the front of `bytes`, by its ADDITIONAL
/// LENGTH.
fn wire_length(bytes: &[u8]) -> Result<usize, TransportIdError> {
    let mut fields = Reader::new(bytes);
    let additional = fields.skip(2).and_then(|()| fields.u16());
    let additional = usize::from(additional.ok_or(TransportIdError::TooShort {
        needed: FIXED_LENGTH,
        given: bytes.len(),
    })?);
    if additional < MIN_ADDITIONAL_LENGTH || !additional.is_multiple_of(ALIGNMENT) {
        return Err(TransportIdError::IscsiLength { additional });
    }
    Ok(HEADER_LENGTH.saturating_add(additional))
}

/// Returns `text` up to its first NUL, or all of it if there is none.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Splits `text` at the first separator.
fn split_separator(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR.as_bytes())?;
    let (name, rest) = text.split_at_checked(at)?;
    let isid = rest.strip_prefix(SEPARATOR.as_bytes())?;
    Some((name, isid))
}

impl fmt::Display for IscsiTransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        self.isid
            .map_or(Ok(()), |isid| write!(f, "{SEPARATOR}{isid}"))
    }
}

/// The reason that a text is not an iSCSI initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum IscsiTextError {
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] IscsiNameError),
    /// The session identifier is invalid.
    #[error(transparent)]
    Isid(#[from] IsidError),
}

impl FromStr for IscsiTransportId {
    type Err = IscsiTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, isid) = match text.split_once(SEPARATOR) {
            Some((name, isid)) => (name, Some(isid.parse()?)),
            None => (text, None),
        };
        Ok(IscsiTransportId {
            name: IscsiName::new(name)?,
            isid,
        })
    }
}

/// The name of an iSCSI node: 1 to 223 bytes of UTF-8 without commas, spaces and control
/// characters.
///
/// A standard name begins with `iqn.`, `eui.` or `naa.` (RFC 7143). Other names are accepted too,
/// because initiators and targets accept them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IscsiName(Box<str>);

impl IscsiName {
    /// Maximum length of a name in bytes (RFC 7143, 4.2.7.1).
    pub const MAX_LEN: usize = 223;

    /// Creates a name from its text.
    ///
    /// # Errors
    ///
    /// Returns [`IscsiNameError`] if the text is empty, too long, or has a forbidden character.
    pub fn new(text: &str) -> Result<Self, IscsiNameError> {
        // A comma would look like the beginning of the separator.
        let forbidden = |c: &char| *c == ',' || c.is_control() || c.is_whitespace();
        match (text.len(), text.chars().find(forbidden)) {
            (0, _) => Err(IscsiNameError::Empty),
            (length, _) if length > Self::MAX_LEN => Err(IscsiNameError::TooLong { length }),
            (_, Some(other)) => Err(IscsiNameError::Character(other)),
            (_, None) => Ok(IscsiName(text.into())),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, IscsiNameError> {
        IscsiName::new(str::from_utf8(bytes).map_err(|_| IscsiNameError::Utf8)?)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `true` if the name has one of the three forms of RFC 7143.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        has_standard_form(&self.0)
    }
}

/// Returns `true` if `text` begins like a name of RFC 7143.
pub(super) fn has_standard_form(text: &str) -> bool {
    ["iqn.", "eui.", "naa."]
        .iter()
        .any(|prefix| text.starts_with(prefix))
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason that a text is not an iSCSI name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum IscsiNameError {
    /// The name is empty.
    #[error("iSCSI name is empty")]
    Empty,
    /// The name is longer than [`IscsiName::MAX_LEN`].
    #[error("iSCSI name too long: {length} bytes (maximum 223)")]
    TooLong {
        /// Length of the name in bytes.
        length: usize,
    },
    /// The name has a forbidden character.
    #[error("invalid character {0:?} in an iSCSI name")]
    Character(char),
    /// The bytes are not UTF-8.
    #[error("iSCSI name is not UTF-8")]
    Utf8,
}

/// ISID: the 48-bit number that distinguishes the sessions of an iSCSI initiator.
///
/// It is 12 hexadecimal digits on the wire and in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isid(u64);

impl Isid {
    const DIGITS: usize = 12;
    const MAX: u64 = (1 << 48) - 1;

    /// Creates the identifier with this value. Returns `None` if it exceeds 48 bits.
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value > Self::MAX {
            None
        } else {
            Some(Isid(value))
        }
    }

    /// Returns the value.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// The reason that a text is not a session identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum IsidError {
    /// The text is not 12 hexadecimal digits.
    #[error("invalid iSCSI session identifier")]
    Digits(#[from] HexError),
    /// The bytes are not UTF-8.
    #[error("iSCSI session identifier is not text")]
    Text,
}

impl FromStr for Isid {
    type Err = IsidError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        Ok(Isid(hex::parse_u64(digits, Self::DIGITS, Self::DIGITS)?))
    }
}
