//! Fields in the order of their bytes, each with its place, name, value and meaning.

use std::fmt::Write;

/// The meaning of what does not count.
pub(super) const IGNORED: &str = "ignored here";

/// A field and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Where it is: `bytes 5-8`, `byte 1, bits 4-0`.
    pub(crate) place: String,
    /// Its name in the standard.
    pub(crate) name: String,
    /// Its value in hexadecimal.
    pub(crate) value: String,
    /// What that means; may be empty.
    pub(crate) meaning: String,
}

/// Takes fields off the front of bytes. A field that is not there as a whole ends it: `None`.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where no field begins or goes on any more.
    end: usize,
    /// What stands before each place.
    prefix: &'static str,
    fields: Vec<Field>,
}

impl<'a> Fields<'a> {
    /// The fields of `bytes`, with `prefix` before each place.
    pub(super) const fn new(bytes: &'a [u8], prefix: &'static str) -> Self {
        Fields {
            bytes,
            at: 0,
            end: bytes.len(),
            prefix,
            fields: Vec::new(),
        }
    }

    /// Ends the fields at `end`, or where the bytes do.
    pub(super) fn end_at(&mut self, end: usize) {
        self.end = end.min(self.bytes.len());
    }

    /// Where the next one begins.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// What was found.
    pub(super) fn into_fields(self) -> Vec<Field> {
        self.fields
    }

    /// Puts the fields of other bytes behind these.
    pub(super) fn append(&mut self, mut other: Fields<'_>) {
        self.fields.append(&mut other.fields);
    }

    /// How many bytes are not taken yet.
    pub(super) const fn left(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    /// The next `count` bytes, at most 8, as one number.
    pub(super) fn number(
        &mut self,
        name: &str,
        count: usize,
        meaning: impl FnOnce(u64) -> String,
    ) -> Option<u64> {
        let place = self.place(count);
        let value = number(self.take(count)?);
        self.push(place, name, format!("{value:#x}"), meaning(value));
        Some(value)
    }

    /// The next `count` bytes as they are.
    pub(super) fn raw(
        &mut self,
        name: &str,
        count: usize,
        meaning: impl FnOnce(&[u8]) -> String,
    ) -> Option<()> {
        let place = self.place(count);
        let bytes = self.take(count)?;
        let value = bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.push(place, name, value, meaning(bytes));
        Some(())
    }

    /// The next `count` bytes, which mean nothing: shown if they are not zero.
    pub(super) fn reserved(&mut self, count: usize) -> Option<()> {
        let place = self.place(count);
        let value = number(self.take(count)?);
        if value != 0 {
            let meaning = "not zero; ignored".to_owned();
            self.push(
                place,
                "(reserved or obsolete)",
                format!("{value:#x}"),
                meaning,
            );
        }
        Some(())
    }

    /// The next byte, to be told apart by [`Self::bits`].
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Some bits of the byte that was taken last.
    pub(super) fn bits(&mut self, name: &str, (high, low): (u8, u8), value: u8, meaning: String) {
        let byte = self.at.saturating_sub(1);
        let place = match high == low {
            true => format!("{}byte {byte}, bit {high}", self.prefix),
            false => format!("{}byte {byte}, bits {high}-{low}", self.prefix),
        };
        self.push(place, name, format!("{value:#x}"), meaning);
    }

    /// Flags of the byte that was taken last, each with its bit and what it says when set; or
    /// [`IGNORED`].
    pub(super) fn flags<const N: usize>(&mut self, byte: u8, flags: [(&str, u8, &str); N]) {
        for (name, bit, meaning) in flags {
            let value = byte >> bit & 1;
            let meaning = match (value, meaning) {
                (_, IGNORED) => IGNORED.to_owned(),
                (0, _) => format!("no: {meaning}"),
                _ => format!("yes: {meaning}"),
            };
            self.bits(name, (bit, bit), value, meaning);
        }
    }

    fn push(&mut self, place: String, name: &str, value: String, meaning: String) {
        self.fields.push(Field {
            place,
            name: name.to_owned(),
            value,
            meaning,
        });
    }

    fn place(&self, count: usize) -> String {
        let (prefix, first) = (self.prefix, self.at);
        match count {
            0 | 1 => format!("{prefix}byte {first}"),
            _ => format!(
                "{prefix}bytes {first}-{}",
                first.saturating_add(count).saturating_sub(1)
            ),
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.bytes.get(self.at..end).filter(|_| end <= self.end)?;
        self.at = end;
        Some(bytes)
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// No meaning beyond the value.
pub(super) fn plain(_: u64) -> String {
    String::new()
}

/// A number of bytes.
pub(super) fn count(value: u64) -> String {
    format!("{value} bytes")
}
