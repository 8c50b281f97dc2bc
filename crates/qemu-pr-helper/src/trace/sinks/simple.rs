// SPDX-License-Identifier: MIT OR Apache-2.0

//! Backend `simple`: QEMU's binary format, version 4 (`trace/simple.c`, read by `simpletrace.py`).
//!
//! Numbers are in the byte order of the machine.
//!
//! * Header: `u64` all ones, `u64` magic, `u64` version.
//! * Mapping, for each event of the table: `u64` 0, `u64` event ID, `u32` length, name.
//! * Record, for each event that occurred: `u64` 1, `u64` event ID, `u64` time in nanoseconds,
//!   `u32` length without the first word, `u32` process ID, arguments. An argument is a number in
//!   `u64`, or a text after its length in `u32`.
//! * Drop marker, in the place of missing records: a record with the event ID [`DROPPED`] and the
//!   number of missing records as argument.

use std::io;
use std::process;
use std::sync::Arc;

use crate::trace::TraceEvent;
use crate::trace::argument::Value;
use crate::trace::events::ALL;
use crate::trace::output::Output;
use crate::trace::writer::{Writer, now, with_record};

const HEADER: u64 = u64::MAX;
const MAGIC: u64 = 0xf2b1_77cb_0aa4_29b4;
const VERSION: u64 = 4;

/// First word of a mapping.
const MAPPING: u64 = 0;
/// First word of a record.
const RECORD: u64 = 1;

/// Event ID of a drop marker.
const DROPPED: u64 = u64::MAX - 1;

/// Maximum length of a text in bytes; longer ones are truncated.
const MAX_TEXT_LEN: usize = 512;

/// Length of a record without its first word and its arguments.
const RECORD_HEADER_LEN: u32 = 24;

#[derive(Debug)]
pub(super) struct Simple {
    pub(super) writer: Arc<Writer>,
    process: u32,
}

impl Simple {
    /// Writes the header, which fails if the output is not writable.
    pub(super) fn new(mut output: Output) -> io::Result<Self> {
        output.write_header(&header())?;
        Ok(Self {
            writer: Writer::new(output, drop_marker),
            process: process::id(),
        })
    }

    pub(super) fn emit(&self, event: &TraceEvent, values: &[Value<'_>]) {
        with_record(|bytes| {
            let now = now();
            append_record(bytes, event.id, now, self.process, values);
            self.writer.push(now, bytes);
        });
    }
}

fn header() -> Vec<u8> {
    let mut bytes = Vec::new();
    append_words(&mut bytes, [HEADER, MAGIC, VERSION]);
    for event in ALL {
        append_words(&mut bytes, [MAPPING, event.id]);
        append_text(&mut bytes, event.name);
    }
    bytes
}

fn append_record(bytes: &mut Vec<u8>, id: u64, now: u64, process: u32, values: &[Value<'_>]) {
    let length = values.iter().map(|value| match value {
        Value::Number(_) => 8,
        Value::Text(text) => text_len(text).saturating_add(4),
    });
    let length = length.fold(RECORD_HEADER_LEN, u32::saturating_add);
    append_words(bytes, [RECORD, id, now]);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&process.to_ne_bytes());
    for value in values {
        match value {
            Value::Number(number) => append_words(bytes, [*number]),
            Value::Text(text) => append_text(bytes, text),
        }
    }
}

fn append_words<const N: usize>(bytes: &mut Vec<u8>, words: [u64; N]) {
    bytes.extend(words.into_iter().flat_map(u64::to_ne_bytes));
}

fn append_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&text_len(text).to_ne_bytes());
    bytes.extend(text.bytes().take(MAX_TEXT_LEN));
}

/// Returns the length of a text after truncation.
fn text_len(text: &str) -> u32 {
    u32::try_from(text.len().min(MAX_TEXT_LEN)).unwrap_or(u32::MAX)
}

fn drop_marker(count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let values = [Value::Number(count)];
    append_record(&mut bytes, DROPPED, now(), process::id(), &values);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the bytes that `simpletrace.py` reads on a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn record_has_the_expected_bytes() {
        let mut bytes = Vec::new();
        let values = [Value::Number(0x0123_4567_89ab_cdef), Value::Text("8:16")];
        append_record(&mut bytes, 7, 0x1122, 0x33, &values);
        let expected: &[u8] = &[
            1, 0, 0, 0, 0, 0, 0, 0, // record
            7, 0, 0, 0, 0, 0, 0, 0, // event ID
            0x22, 0x11, 0, 0, 0, 0, 0, 0, // time
            40, 0, 0, 0, // 24 + 8 + 4 + 4
            0x33, 0, 0, 0, // process ID
            0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, // a number
            4, 0, 0, 0, b'8', b':', b'1', b'6', // a text
        ];
        assert_eq!(bytes, expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn header_has_the_expected_bytes() {
        let header = header();
        let expected: &[u8] = &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // header
            0xb4, 0x29, 0xa4, 0x0a, 0xcb, 0x77, 0xb1, 0xf2, // magic
            4, 0, 0, 0, 0, 0, 0, 0, // version
            0, 0, 0, 0, 0, 0, 0, 0, // mapping
            0, 0, 0, 0, 0, 0, 0, 0, // event ID
            13, 0, 0, 0, // length of the name
        ];
        assert_eq!(header[..expected.len()], *expected);
        assert!(header[expected.len()..].starts_with(b"socket_listen"));
        let names: usize = ALL.iter().map(|event| 20 + event.name.len()).sum();
        assert_eq!(header.len(), 24 + names);
    }

    #[test]
    fn drop_marker_is_a_record_of_32_bytes() {
        let bytes = drop_marker(300);
        assert_eq!(bytes.len(), 8 + 32);
        assert_eq!(bytes[8..16], 0xffff_ffff_ffff_fffe_u64.to_ne_bytes());
        assert_eq!(bytes[24..28], 32_u32.to_ne_bytes());
        assert_eq!(bytes[32..], 300_u64.to_ne_bytes());
    }

    #[test]
    fn long_text_is_truncated() {
        let mut bytes = Vec::new();
        append_record(&mut bytes, 0, 0, 0, &[Value::Text(&"x".repeat(600))]);
        assert_eq!(bytes.len(), 8 + 24 + 4 + 512);
        assert_eq!(bytes[24..28], 540_u32.to_ne_bytes());
        assert_eq!(bytes[32..36], 512_u32.to_ne_bytes());
    }
}
