//! Backend `simple`: QEMU's binary format, version 4 (`trace/simple.c`, read by `simpletrace.py`). Numbers are
//! in the machine's byte order.
//!
//! | part | bytes |
//! |---|---|
//! | header | `u64` all ones, `u64` magic, `u64` version |
//! | one for each event there is | `u64` 0, `u64` number, `u32` length, name |
//! | one for each event that happened | `u64` 1, `u64` number, `u64` nanoseconds, `u32` length without the first word, `u32` process, arguments |
//! | where some are missing | the same with the number [`DROPPED`], and how many in `u64` |
//!
//! An argument is a number in `u64`, or a text after its length in `u32`.

use std::io;
use std::process;

use crate::trace::Event;
use crate::trace::argument::Value;
use crate::trace::events::ALL;
use crate::trace::output::Output;
use crate::trace::writer::{Writer, now, with_record};

const HEADER: u64 = u64::MAX;
const MAGIC: u64 = 0xf2b1_77cb_0aa4_29b4;
const VERSION: u64 = 4;

/// What follows is an event's name.
const MAPPING: u64 = 0;
/// What follows is an event that happened.
const RECORD: u64 = 1;

/// The number of what stands for missing events.
const DROPPED: u64 = u64::MAX - 1;

/// The bytes of a text that are kept.
const LONGEST_TEXT: usize = 512;

/// Bytes of a record in front of its arguments, without the first word.
const RECORD_HEADER: u32 = 24;

/// Writes records.
#[derive(Debug)]
pub(super) struct Simple {
    writer: Writer,
    process: u32,
}

impl Simple {
    /// Writes the header, which says whether the target can be written to.
    pub(super) fn new(mut target: Output) -> io::Result<Self> {
        target.begin(&header())?;
        Ok(Self {
            writer: Writer::new(target, dropped),
            process: process::id(),
        })
    }

    pub(super) fn emit(&self, event: &Event, values: &[Value<'_>]) {
        with_record(|bytes| {
            let now = now();
            record(bytes, event.id, now, self.process, values);
            self.writer.put(now, bytes);
        });
    }

    pub(super) const fn writer(&self) -> &Writer {
        &self.writer
    }
}

fn header() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [HEADER, MAGIC, VERSION] {
        bytes.extend(word.to_ne_bytes());
    }
    for event in ALL {
        bytes.extend(MAPPING.to_ne_bytes());
        bytes.extend(event.id.to_ne_bytes());
        put_text(&mut bytes, event.name);
    }
    bytes
}

fn record(bytes: &mut Vec<u8>, id: u64, now: u64, process: u32, values: &[Value<'_>]) {
    let length = values
        .iter()
        .map(size)
        .fold(RECORD_HEADER, u32::saturating_add);
    for word in [RECORD, id, now] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    for word in [length, process] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    for value in values {
        match value {
            Value::Number(number) => bytes.extend_from_slice(&number.to_ne_bytes()),
            Value::Text(text) => put_text(bytes, text),
        }
    }
}

fn size(value: &Value<'_>) -> u32 {
    match value {
        Value::Number(_) => 8,
        Value::Text(text) => text_length(text).saturating_add(4),
    }
}

fn text_length(text: &str) -> u32 {
    u32::try_from(text.len().min(LONGEST_TEXT)).unwrap_or(u32::MAX)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&text_length(text).to_ne_bytes());
    let text = text.as_bytes();
    bytes.extend_from_slice(text.get(..LONGEST_TEXT).unwrap_or(text));
}

fn dropped(count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let values = [Value::Number(count)];
    record(&mut bytes, DROPPED, now(), process::id(), &values);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a little-endian machine: what `simpletrace.py` reads, byte for byte.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_record_is_these_bytes() {
        let mut bytes = Vec::new();
        let values = [Value::Number(0x0123_4567_89ab_cdef), Value::Text("8:16")];
        record(&mut bytes, 7, 0x1122, 0x33, &values);
        let expected: &[u8] = &[
            1, 0, 0, 0, 0, 0, 0, 0, // an event that happened
            7, 0, 0, 0, 0, 0, 0, 0, // its number
            0x22, 0x11, 0, 0, 0, 0, 0, 0, // when
            40, 0, 0, 0, // 24 + 8 + 4 + 4
            0x33, 0, 0, 0, // by whom
            0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, // a number
            4, 0, 0, 0, b'8', b':', b'1', b'6', // a text
        ];
        assert_eq!(bytes, expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_trace_begins_with_these_bytes() {
        let header = header();
        let expected: &[u8] = &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // header
            0xb4, 0x29, 0xa4, 0x0a, 0xcb, 0x77, 0xb1, 0xf2, // magic
            4, 0, 0, 0, 0, 0, 0, 0, // version
            0, 0, 0, 0, 0, 0, 0, 0, // the name of an event
            0, 0, 0, 0, 0, 0, 0, 0, // the first
            13, 0, 0, 0, // as long as
        ];
        assert_eq!(header[..expected.len()], *expected);
        assert!(header[expected.len()..].starts_with(b"socket_listen"));
        let names: usize = ALL.iter().map(|event| 20 + event.name.len()).sum();
        assert_eq!(header.len(), 24 + names);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn missing_events_are_a_record_of_32_bytes() {
        let bytes = dropped(300);
        assert_eq!(bytes.len(), 8 + 32);
        assert_eq!(
            bytes[8..16],
            [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
        );
        assert_eq!(bytes[24..28], [32, 0, 0, 0]);
        assert_eq!(bytes[32..], [0x2c, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_long_text_is_cut() {
        let mut bytes = Vec::new();
        record(&mut bytes, 0, 0, 0, &[Value::Text(&"x".repeat(600))]);
        assert_eq!(bytes.len(), 8 + 24 + 4 + 512);
        assert_eq!(bytes[24..28], 540_u32.to_ne_bytes());
        assert_eq!(bytes[32..36], 512_u32.to_ne_bytes());
    }
}
