//! A fuzzer's bytes, taken apart: numbers off the front, and the rest.

/// Bytes of which none are left without an end: from there on all numbers are zero.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (byte, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *byte
    }

    /// One of the numbers below `end`.
    pub(crate) fn below(&mut self, end: u8) -> usize {
        usize::from(self.byte() % end)
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// As many bytes as the first of them says, and as there are.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Two texts or files in one: what is before and what is behind the first zero byte.
pub(crate) fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    (
        halves.next().unwrap_or_default(),
        halves.next().unwrap_or_default(),
    )
}
