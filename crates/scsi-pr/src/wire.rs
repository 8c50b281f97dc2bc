//! Fields on the wire: reads them off the front of a byte slice, never beyond its end, and builds
//! those that hold bits and lengths.

/// A place in a byte slice; each method takes what it returns off the front.
///
/// `None` means that fewer bytes are left than asked for; nothing is taken then.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Everything not yet taken.
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

/// A length field of four bytes as a number of bytes in memory.
///
/// On a machine whose `usize` is narrower the largest value stands for "more than can be there".
pub(crate) fn length_from_field(field: u32) -> usize {
    usize::try_from(field).unwrap_or(usize::MAX)
}

/// The value of a four-byte length field for `length` bytes.
///
/// Data of 4 GiB and more cannot be described on the wire; it gets the largest length.
pub(crate) fn length_to_field(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A byte with the bits of those fields that are set.
pub(crate) fn flags<const N: usize>(fields: [(bool, u8); N]) -> u8 {
    fields
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |byte, (_, bit)| byte | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_in_order_and_big_endian() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 9]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(2));
        assert_eq!(reader.u32(), Some(3));
        assert_eq!(reader.rest(), [9]);
    }

    #[test]
    fn a_field_beyond_the_end_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.skip(4), None);
        assert_eq!(reader.u16(), Some(0x0102));
    }
}
