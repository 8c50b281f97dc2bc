// SPDX-License-Identifier: MIT OR Apache-2.0

//! `RequestDecoder`: decoding a stream in arbitrary pieces has the same result as reading the
//! complete stream.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use pr_helper_protocol::decoder::Progress;
use pr_helper_protocol::fd_passing::ReceivedFds;
use pr_helper_protocol::wire::{CDB_SIZE, CLEANUP, FEATURES_SIZE, MAX_TRANSFER};
use pr_helper_protocol::{Direction, ProtocolError, RequestDecoder, RequestFd};

use fuzz::input::Input;

fuzz::target!(run);

/// Descriptors sent with a byte.
#[derive(Clone, Copy, Debug)]
enum SentFds {
    One,
    Truncated,
    Many,
}

/// Data sent by a client.
struct Stream<'a> {
    bytes: &'a [u8],
    /// Descriptors, by the index of the byte that they are sent with.
    fds: BTreeMap<usize, SentFds>,
}

/// Result of reading a stream.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    /// CDB, parameter list, and whether the device's descriptor was received.
    requests: Vec<([u8; CDB_SIZE], Vec<u8>, bool)>,
    is_negotiated: bool,
    is_between_requests: bool,
    error: Option<ProtocolError>,
}

/// Input: piece lengths, positions of descriptors, and the stream.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let pieces: Vec<usize> = (0..input.below(8))
        .map(|_| 1 + usize::from(input.byte()))
        .collect();
    let fds = (0..input.below(8)).map(|_| {
        let position = input.word();
        let sent = match position >> 13 {
            0..6 => SentFds::One,
            6 => SentFds::Truncated,
            _ => SentFds::Many,
        };
        (usize::from(position & 0x1fff), sent)
    });
    let stream = Stream {
        fds: fds.collect(),
        bytes: input.rest(),
    };
    let expected = read_whole(&stream);
    assert_eq!(read_in_pieces(&stream, &[usize::MAX]), expected, "at once");
    assert_eq!(read_in_pieces(&stream, &[1]), expected, "byte by byte");
    assert_eq!(read_in_pieces(&stream, &pieces), expected, "{pieces:?}");
}

/// Decodes the stream like a socket delivers it: a read ends before the second message with
/// descriptors.
fn read_in_pieces(stream: &Stream<'_>, pieces: &[usize]) -> Transcript {
    let mut pieces = pieces.iter().copied().cycle();
    let (mut decoder, mut transcript, mut offset) =
        (RequestDecoder::new(), Transcript::default(), 0);
    while offset < stream.bytes.len() && transcript.error.is_none() {
        let left = &stream.bytes[offset..];
        let space = decoder.buffer();
        assert!((1..=MAX_TRANSFER).contains(&space.len()));
        let mut count = left
            .len()
            .min(space.len())
            .min(pieces.next().unwrap_or(usize::MAX));
        let mut sent = stream.fds.range(offset..offset + count);
        let first = sent.next().map(|(_, sent)| *sent);
        if let Some((second, _)) = sent.next() {
            count = second - offset;
        }
        space[..count].copy_from_slice(&left[..count]);
        offset += count;
        match decoder.advance(count, fds(first)) {
            Ok(Progress::Request(request)) => {
                let is_open = matches!(request.fd, RequestFd::Open(_));
                let expected_length = match request.command.direction() {
                    Direction::In => 0,
                    Direction::Out => request.command.transfer_length(),
                };
                assert_eq!(request.parameters.len(), expected_length);
                let cdb = *request.command.cdb();
                transcript.requests.push((cdb, request.parameters, is_open));
            }
            Ok(Progress::Incomplete | Progress::Negotiated(_)) => {}
            Err(error) => transcript.error = Some(error),
        }
    }
    if transcript.error.is_none() {
        transcript.is_negotiated = decoder.is_negotiated();
        transcript.is_between_requests = decoder.is_between_requests();
    }
    transcript
}

fn fds(sent: Option<SentFds>) -> ReceivedFds {
    match sent {
        None => ReceivedFds::None,
        Some(SentFds::One) => ReceivedFds::One(open_null()),
        Some(SentFds::Truncated) => ReceivedFds::Truncated,
        Some(SentFds::Many) => ReceivedFds::Many(vec![open_null(), open_null()]),
    }
}

fn open_null() -> OwnedFd {
    static NULL: OnceLock<File> = OnceLock::new();
    let null = NULL.get_or_init(|| File::open("/dev/null").unwrap());
    null.try_clone().unwrap().into()
}

/// Reads the complete stream as `docs/interop/pr-helper.rst` of QEMU specifies.
fn read_whole(stream: &Stream<'_>) -> Transcript {
    let mut transcript = Transcript::default();
    match read_requests(stream, &mut transcript) {
        Ok(is_between_requests) => transcript.is_between_requests = is_between_requests,
        Err(error) => {
            transcript.error = Some(error);
            transcript.is_negotiated = false;
        }
    }
    transcript
}

/// Returns whether the stream ends between requests.
fn read_requests(stream: &Stream<'_>, transcript: &mut Transcript) -> Result<bool, ProtocolError> {
    let Some(features) = take(stream, 0, FEATURES_SIZE, None)? else {
        return Ok(stream.bytes.is_empty());
    };
    let features = u32::from_be_bytes(features.try_into().unwrap());
    if features > 1 {
        return Err(ProtocolError::UnknownFeatures(features));
    }
    transcript.is_negotiated = true;
    let mut offset = FEATURES_SIZE;
    loop {
        let mut device = None;
        let Some(cdb) = take(stream, offset, CDB_SIZE, Some(&mut device))? else {
            return Ok(offset == stream.bytes.len());
        };
        offset += CDB_SIZE;
        let is_open = device.ok_or(ProtocolError::MissingFd)?;
        if !matches!(cdb[0], 0x5e | 0x5f | CLEANUP) {
            return Err(ProtocolError::UnsupportedOpcode(cdb[0]));
        }
        let length = u16::from_be_bytes([cdb[7], cdb[8]]);
        if length > 8192 && cdb[0] != CLEANUP {
            return Err(ProtocolError::TooLong(length));
        }
        let length = if cdb[0] == 0x5f { length.into() } else { 0 };
        let Some(parameter_list) = take(stream, offset, length, None)? else {
            return Ok(false);
        };
        offset += length;
        let cdb = cdb.try_into().unwrap();
        transcript
            .requests
            .push((cdb, parameter_list.to_vec(), is_open));
    }
}

/// Returns `length` bytes if the stream has them. Only one descriptor can come with them, and only
/// if the caller expects a device.
fn take<'a>(
    stream: &Stream<'a>,
    offset: usize,
    length: usize,
    mut device: Option<&mut Option<bool>>,
) -> Result<Option<&'a [u8]>, ProtocolError> {
    let end = (offset + length).min(stream.bytes.len());
    for sent in stream
        .fds
        .range(offset..end.max(offset))
        .map(|(_, sent)| sent)
    {
        match (sent, &mut device) {
            (SentFds::Many, _) | (_, Some(Some(_))) => return Err(ProtocolError::TooManyFds),
            (_, None) => return Err(ProtocolError::UnexpectedFd),
            (sent, Some(device)) => **device = Some(matches!(sent, SentFds::One)),
        }
    }
    Ok(stream.bytes.get(offset..offset + length))
}
