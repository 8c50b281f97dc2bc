// SPDX-License-Identifier: MIT OR Apache-2.0

//! Explains bytes field by field: walks along a [`layout`](super::layouts).

use std::fmt::Write as _;

use scsi_pr::{OutServiceAction, Scope, ScopeType, Sense, TransportId, TransportIds};

/// The meaning of fields that the device ignores.
pub(super) const IGNORED: &str = "ignored";

/// A part of a layout.
pub(super) enum Item {
    /// A big-endian integer: name, number of bytes, meaning.
    Int(&'static str, usize, Meaning),
    /// The length of the list that follows, as an integer of four bytes.
    ListLength(&'static str),
    /// Reserved or obsolete bytes, which are shown only if they are not zero: number of bytes.
    Reserved(usize),
    /// A byte of bit fields: name, highest and lowest bit, meaning.
    Bits(&'static [(&'static str, u8, u8, Meaning)]),
    /// A byte with SCOPE and TYPE. The function returns whether the device uses them.
    ScopeType(fn(&Context) -> bool),
    /// Bytes: name, number, meaning.
    Raw(&'static str, usize, fn(&[u8], &Context) -> String),
    /// Bytes in the number of the last integer: name, meaning.
    Sized(&'static str, fn(&[u8], &Context) -> String),
    /// TransportIDs up to the end or the first malformed one.
    TransportIds,
    /// Items that are there if the function returns true.
    If(fn(&Context) -> bool, &'static [Item]),
    /// Items that are there once, or not at all.
    Optional(&'static [Item]),
    /// Items that repeat while this number of bytes is left in the list.
    Repeat(usize, &'static [Item]),
    /// All bytes that are left.
    Rest,
}

/// The explanation of a field's value.
#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// No explanation.
    Plain,
    /// A number of bytes.
    Bytes,
    /// A statement, answered with yes or no.
    Flag(&'static str),
    /// A function of the value.
    Computed(fn(u64, &Context) -> String),
}

impl Meaning {
    fn text(self, value: u64, context: &Context) -> String {
        match self {
            Meaning::Plain => String::new(),
            Meaning::Bytes => format!("{value} bytes"),
            Meaning::Flag(statement) => flag(value, statement),
            Meaning::Computed(text) => text(value, context),
        }
    }
}

/// Answers a statement with yes or no.
pub(super) fn flag(value: u64, statement: &str) -> String {
    let answer = if value == 0 { "no" } else { "yes" };
    format!("{statement}: {answer}")
}

/// State that the meaning of a field can depend on.
#[derive(Default)]
pub(super) struct Context {
    /// The service action of a CDB or parameter list, unless it is reserved.
    pub(super) action: Option<OutServiceAction>,
    /// The decoded sense data.
    pub(super) sense: Option<Sense>,
    /// The last byte of bit fields.
    pub(super) flags: u8,
    /// The last integer, and the one before it.
    pub(super) last: u64,
    pub(super) second_last: u64,
}

/// A field, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// For example `bytes 5-8`, or `byte 1, bits 4-0`.
    pub(crate) position: String,
    /// The standard's name.
    pub(crate) name: &'static str,
    /// The value in hexadecimal.
    pub(crate) value: String,
    /// May be empty.
    pub(crate) meaning: String,
}

/// Walks along a layout and collects fields until a field is incomplete.
pub(super) struct Walker<'a> {
    bytes: &'a [u8],
    /// The offset of the next field.
    at: usize,
    /// The offset at which fields end.
    end: usize,
    /// The number of bytes behind the list.
    behind: usize,
    /// The text before each position.
    prefix: &'static str,
    context: Context,
    fields: Vec<Field>,
}

impl<'a> Walker<'a> {
    pub(super) const fn new(bytes: &'a [u8], prefix: &'static str, context: Context) -> Self {
        Walker {
            bytes,
            at: 0,
            end: bytes.len(),
            behind: 0,
            prefix,
            context,
            fields: Vec::new(),
        }
    }

    /// Ends the fields at the offset `end`, or at the end of the bytes.
    pub(super) fn end_at(&mut self, end: usize) {
        self.end = end.min(self.bytes.len());
    }

    /// Returns the offset of the next field.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// Returns the number of bytes up to the end of the fields.
    pub(super) const fn left(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    pub(super) fn into_fields(self) -> Vec<Field> {
        self.fields
    }

    /// Collects the fields of a layout. Returns `None` if the bytes end before the layout does.
    pub(super) fn walk(&mut self, layout: &[Item]) -> Option<()> {
        layout.iter().try_for_each(|item| self.item(item))
    }

    fn item(&mut self, item: &Item) -> Option<()> {
        match *item {
            Item::Int(name, length, meaning) => {
                self.int(name, length, meaning)?;
            }
            Item::ListLength(name) => {
                let length = self.int(name, 4, Meaning::Bytes)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.behind = self.left().saturating_sub(length);
            }
            Item::Reserved(length) => self.reserved(length)?,
            Item::Bits(fields) => {
                let byte = self.byte()?;
                self.context.flags = byte;
                for (name, high, low, meaning) in fields {
                    let value = byte >> low & (0xff >> (7 - (high - low)));
                    let meaning = meaning.text(value.into(), &self.context);
                    self.bits(name, *high, *low, value, meaning);
                }
            }
            Item::ScopeType(is_used) => self.scope_type(is_used)?,
            Item::Raw(name, length, meaning) => self.raw(name, length, meaning)?,
            Item::Sized(name, meaning) => {
                self.raw(name, usize::try_from(self.context.last).ok()?, meaning)?;
            }
            Item::TransportIds => {
                let ids = TransportIds::new(self.bytes.get(self.at..)?);
                for id in ids.map_while(Result::ok) {
                    self.raw("TransportID", id.encoded_len(), transport_id)?;
                }
            }
            Item::If(condition, items) => {
                if condition(&self.context) {
                    self.walk(items)?;
                }
            }
            Item::Optional(items) => {
                if self.left() > self.behind {
                    self.walk(items)?;
                }
            }
            Item::Repeat(length, items) => {
                while self.left() >= self.behind.saturating_add(length) {
                    self.walk(items)?;
                }
            }
            Item::Rest => {
                if self.left() > 0 {
                    let meaning = "not a complete field, or past the end";
                    self.raw("(trailing bytes)", self.left(), |_, _| meaning.to_owned())?;
                }
            }
        }
        Some(())
    }

    fn reserved(&mut self, length: usize) -> Option<()> {
        let position = self.position(length);
        let value = integer(self.take(length)?);
        if value != 0 {
            let (value, meaning) = (format!("{value:#x}"), "not zero; ignored".to_owned());
            self.push(position, "(reserved or obsolete)", value, meaning);
        }
        Some(())
    }

    fn scope_type(&mut self, is_used: fn(&Context) -> bool) -> Option<()> {
        let byte = ScopeType(self.byte()?);
        let is_used = is_used(&self.context);
        let meaning = |text: String| if is_used { text } else { IGNORED.to_owned() };
        let scope = byte.scope().map(|scope| scope.to_string());
        let scope = scope.unwrap_or_else(|| "reserved".to_owned());
        self.bits("SCOPE", 7, 4, byte.scope_code(), meaning(scope));
        // The text of a type in the scope of the logical unit does not contain the scope.
        let unit = ScopeType(Scope::LogicalUnit.code() << 4 | byte.type_code());
        self.bits("TYPE", 3, 0, byte.type_code(), meaning(unit.to_string()));
        Some(())
    }

    fn int(&mut self, name: &'static str, length: usize, meaning: Meaning) -> Option<u64> {
        let position = self.position(length);
        let value = integer(self.take(length)?);
        let meaning = meaning.text(value, &self.context);
        self.push(position, name, format!("{value:#x}"), meaning);
        self.context.second_last = self.context.last;
        self.context.last = value;
        Some(value)
    }

    fn raw(
        &mut self,
        name: &'static str,
        length: usize,
        meaning: impl Fn(&[u8], &Context) -> String,
    ) -> Option<()> {
        let position = self.position(length);
        let bytes = self.take(length)?;
        let value = bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let meaning = meaning(bytes, &self.context);
        self.push(position, name, value, meaning);
        Some(())
    }

    /// Adds some bits of the byte that was taken last.
    fn bits(&mut self, name: &'static str, high: u8, low: u8, value: u8, meaning: String) {
        let (prefix, byte) = (self.prefix, self.at.saturating_sub(1));
        let position = match high == low {
            true => format!("{prefix}byte {byte}, bit {high}"),
            false => format!("{prefix}byte {byte}, bits {high}-{low}"),
        };
        self.push(position, name, format!("{value:#x}"), meaning);
    }

    fn push(&mut self, position: String, name: &'static str, value: String, meaning: String) {
        self.fields.push(Field {
            position,
            name,
            value,
            meaning,
        });
    }

    fn position(&self, length: usize) -> String {
        let (prefix, first) = (self.prefix, self.at);
        let last = first.saturating_add(length).saturating_sub(1);
        match length {
            0 | 1 => format!("{prefix}byte {first}"),
            _ => format!("{prefix}bytes {first}-{last}"),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end).filter(|_| end <= self.end)?;
        self.at = end;
        Some(bytes)
    }
}

fn integer(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Explains a TransportID.
pub(super) fn transport_id(bytes: &[u8], _: &Context) -> String {
    match TransportId::decode(bytes) {
        Ok(id) => id.to_string(),
        Err(error) => format!("malformed: {error}"),
    }
}
