// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fields on the wire: a reader that never reads beyond the end of a byte slice, length and flag
//! fields, and enums of numbers.

/// A reader of a byte slice. Each method consumes the bytes that it returns.
///
/// A method returns `None`, and consumes nothing, if fewer bytes are left than requested.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Returns all bytes that are left, without consuming them.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }
}

/// Converts a four-byte length field to a number of bytes in memory.
///
/// If `usize` is narrower than 32 bits, a length that does not fit becomes `usize::MAX`, which
/// exceeds any slice.
pub(crate) fn length_from_field(field: u32) -> usize {
    usize::try_from(field).unwrap_or(usize::MAX)
}

/// Converts `length` to a four-byte length field. A length of 4 GiB or more becomes `u32::MAX`,
/// because the wire format cannot express it.
pub(crate) fn length_to_field(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Returns a byte with the bits of those `fields` that are `true`.
pub(crate) fn flags<const N: usize>(fields: [(bool, u8); N]) -> u8 {
    fields
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |byte, (_, bit)| byte | bit)
}

/// Defines an enum from one table of variants, numbers on the wire and names in the standard, so
/// that the four cannot disagree. The numbers must be ascending.
macro_rules! wire_enum {
    ($(#[$attribute:meta])* pub enum $type:ident {
        $($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)+
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $variant = $code,)+
        }

        impl $type {
            /// All values, in the order of their numbers.
            pub const ALL: [Self; [$($code),+].len()] = [$(Self::$variant),+];

            /// Returns the value with this number, or `None` if the number is reserved or obsolete.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Returns the number on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// Returns the name in the standard.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_reads_big_endian_fields_in_order() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 9]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(2));
        assert_eq!(reader.u32(), Some(3));
        assert_eq!(reader.rest(), [9]);
    }

    #[test]
    fn read_beyond_the_end_consumes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.skip(4), None);
        assert_eq!(reader.u16(), Some(0x0102));
    }
}
