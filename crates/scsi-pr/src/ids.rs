// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers that identify a registrant, a generation of registrations and a target port.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::hex::{self, HexError};

/// A reservation key: the 64-bit identifier that a registrant chose for itself (SPC-4, 5.12).
///
/// Zero means "no key": registering it removes the registration. The text form is hexadecimal, as
/// in `sg_persist` and `multipath.conf`: `0x123abc`. The prefix is optional when parsing.
///
/// ```
/// # use scsi_pr::ReservationKey;
/// let key: ReservationKey = "0x123abc".parse()?;
/// assert_eq!(key, ReservationKey::new(0x12_3abc));
/// assert_eq!(key.to_string(), "0x123abc");
/// # Ok::<(), scsi_pr::ReservationKeyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationKey(u64);

impl ReservationKey {
    /// No key: the key of an unregistered initiator port.
    pub const ZERO: ReservationKey = ReservationKey(0);

    /// Creates the key with this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        ReservationKey(value)
    }

    /// Returns the value.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns `true` if this is [`ReservationKey::ZERO`].
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<u64> for ReservationKey {
    fn from(value: u64) -> Self {
        ReservationKey(value)
    }
}

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The error of parsing a [`ReservationKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a reservation key (1 to 16 hexadecimal digits, with or without 0x)")]
pub struct ReservationKeyError(#[from] HexError);

impl FromStr for ReservationKey {
    type Err = ReservationKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = hex::without_prefix(text);
        Ok(ReservationKey(hex::parse_u64(digits, 1, 16)?))
    }
}

/// PRGENERATION: the number of changes to the registrations of a logical unit (SPC-4, 6.15.2).
///
/// If two reads return the same generation, no key was added or removed in between. The number
/// wraps around, and starts at zero at power on. The text form is hexadecimal, as in `sg_persist`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrGeneration(u32);

impl PrGeneration {
    /// Creates the generation with this value.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        PrGeneration(value)
    }

    /// Returns the value.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the generation after this one. Zero follows the largest.
    #[must_use]
    pub const fn next(self) -> Self {
        PrGeneration(self.0.wrapping_add(1))
    }
}

impl From<u32> for PrGeneration {
    fn from(value: u32) -> Self {
        PrGeneration(value)
    }
}

impl fmt::Display for PrGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// RELATIVE TARGET PORT IDENTIFIER: the number of a target port within its device (SPC-4, 6.15.5).
///
/// 1 is the first port, historically port A; 0 is reserved. The text form is decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativeTargetPort(u16);

impl RelativeTargetPort {
    /// Creates the identifier of the port with this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        RelativeTargetPort(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<u16> for RelativeTargetPort {
    fn from(number: u16) -> Self {
        RelativeTargetPort(number)
    }
}

impl fmt::Display for RelativeTargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_parsed_with_and_without_prefix() {
        for (text, value) in [
            ("0x123abc", 0x12_3abc),
            ("123ABC", 0x12_3abc),
            ("0X1", 1),
            ("0", 0),
            ("ffffffffffffffff", u64::MAX),
            ("0x0000000000000001", 1),
        ] {
            assert_eq!(text.parse(), Ok(ReservationKey::new(value)), "{text}");
        }
    }

    #[test]
    fn invalid_key_text_is_rejected() {
        for (text, cause) in [
            ("", HexError::Empty),
            ("0x", HexError::Empty),
            ("0x0x1", HexError::Digit('x')),
            ("+1", HexError::Digit('+')),
            ("12 ", HexError::Digit(' ')),
            ("00000000000000001", HexError::TooLong { max: 16 }),
        ] {
            assert_eq!(text.parse::<ReservationKey>(), Err(cause.into()), "{text}");
        }
    }

    #[test]
    fn generation_wraps_around() {
        assert_eq!(PrGeneration::new(u32::MAX).next(), PrGeneration::new(0));
    }
}
