//! The numbers that name a registrant, a generation of registrations and a target port.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::hex::{self, HexError};

/// A reservation key: the 64-bit name that a registrant chose for itself (SPC-4, 5.12).
///
/// Zero is "no key": registering it removes the registration. Text is hexadecimal in the form of
/// `sg_persist` and `multipath.conf`, `0x123abc`; on parsing the prefix may be left out.
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
    /// No key: what an unregistered initiator port has.
    pub const ZERO: ReservationKey = ReservationKey(0);

    /// The key with this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        ReservationKey(value)
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is [`ReservationKey::ZERO`].
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

impl From<ReservationKey> for u64 {
    fn from(key: ReservationKey) -> Self {
        key.0
    }
}

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A text is not a reservation key.
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

/// PRGENERATION: how often the registrations of a logical unit were changed (SPC-4, 6.15.2).
///
/// A reader that gets the same generation twice knows that no key came or went in between. It wraps
/// around and starts from zero at power on. Text is hexadecimal as in `sg_persist`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrGeneration(u32);

impl PrGeneration {
    /// The generation with this value.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        PrGeneration(value)
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The generation after this one; after the largest comes zero.
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

impl From<PrGeneration> for u32 {
    fn from(generation: PrGeneration) -> Self {
        generation.0
    }
}

impl fmt::Display for PrGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// RELATIVE TARGET PORT IDENTIFIER: the number of a target port within its device (SPC-4, 6.15.5).
///
/// 1 is the first port, historically port A; 0 is reserved. Text is decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativeTargetPort(u16);

impl RelativeTargetPort {
    /// The port with this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        RelativeTargetPort(number)
    }

    /// The number.
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

impl From<RelativeTargetPort> for u16 {
    fn from(port: RelativeTargetPort) -> Self {
        port.0
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
    fn keys_are_read_with_and_without_prefix() {
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
    fn texts_that_are_no_key_are_refused() {
        for (text, cause) in [
            ("", HexError::Empty),
            ("0x", HexError::Empty),
            ("0x0x1", HexError::Digit('x')),
            ("+1", HexError::Digit('+')),
            ("12 ", HexError::Digit(' ')),
            ("00000000000000001", HexError::TooLong { most: 16 }),
        ] {
            assert_eq!(text.parse::<ReservationKey>(), Err(cause.into()), "{text}");
        }
    }

    #[test]
    fn the_generation_wraps_around() {
        assert_eq!(PrGeneration::new(u32::MAX).next(), PrGeneration::new(0));
    }
}
