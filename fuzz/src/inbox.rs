//! A connection's inbox: whatever is sent, and however it is cut, is read as by one who has all of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use pr_helper_protocol::decoder::Progress;
use pr_helper_protocol::fd_passing::ReceivedFds;
use pr_helper_protocol::wire::{CDB_SIZE, FEATURES_SIZE, MAX_TRANSFER};
use pr_helper_protocol::{Direction, ProtocolError, RequestDecoder, RequestFd};

use crate::input::Input;

/// What was sent with a byte.
#[derive(Clone, Copy, Debug)]
enum Sent {
    One,
    Lost,
    Several,
}

/// What a client has sent.
struct Stream<'a> {
    bytes: &'a [u8],
    /// Descriptors, by the byte that they came with.
    descriptors: BTreeMap<usize, Sent>,
}

/// What somebody made of it.
#[derive(Debug, Default, PartialEq)]
struct Story {
    /// CDB, parameter list, and whether there is a device.
    requests: Vec<([u8; CDB_SIZE], Vec<u8>, bool)>,
    is_negotiated: bool,
    is_between_requests: bool,
    violation: Option<ProtocolError>,
}

/// Cuts, places of descriptors, and the rest is the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts: Vec<usize> = (0..input.below(8))
        .map(|_| 1 + usize::from(input.byte()))
        .collect();
    let descriptors = (0..input.below(8)).map(|_| {
        let place = input.word();
        let sent = match place >> 13 {
            0..6 => Sent::One,
            6 => Sent::Lost,
            _ => Sent::Several,
        };
        (usize::from(place & 0x1fff), sent)
    });
    let stream = Stream {
        descriptors: descriptors.collect(),
        bytes: input.rest(),
    };
    let expected = read_whole(&stream);
    assert_eq!(read_by_inbox(&stream, &[usize::MAX]), expected, "at once");
    assert_eq!(read_by_inbox(&stream, &[1]), expected, "byte by byte");
    assert_eq!(read_by_inbox(&stream, &cuts), expected, "{cuts:?}");
}

/// Reads as the kernel lets one: a read ends before what came with a second message with descriptors.
fn read_by_inbox(stream: &Stream<'_>, cuts: &[usize]) -> Story {
    let mut cuts = cuts.iter().copied().cycle();
    let (mut inbox, mut story, mut at) = (RequestDecoder::new(), Story::default(), 0);
    while at < stream.bytes.len() && story.violation.is_none() {
        let left = &stream.bytes[at..];
        let space = inbox.buffer();
        assert!((1..=MAX_TRANSFER).contains(&space.len()));
        let mut count = left
            .len()
            .min(space.len())
            .min(cuts.next().unwrap_or(usize::MAX));
        let mut sent = stream.descriptors.range(at..at + count);
        let first = sent.next().map(|(_, sent)| *sent);
        if let Some((second, _)) = sent.next() {
            count = second - at;
        }
        space[..count].copy_from_slice(&left[..count]);
        at += count;
        match inbox.advance(count, descriptors(first)) {
            Ok(Progress::Request(request)) => {
                let is_open = matches!(request.fd, RequestFd::Open(_));
                let wanted = match request.command.direction() {
                    Direction::In => 0,
                    Direction::Out => request.command.transfer_length(),
                };
                assert_eq!(request.parameters.len(), wanted);
                let cdb = *request.command.cdb();
                story.requests.push((cdb, request.parameters, is_open));
            }
            Ok(Progress::Incomplete | Progress::Negotiated(_)) => {}
            Err(violation) => story.violation = Some(violation),
        }
    }
    if story.violation.is_none() {
        story.is_negotiated = inbox.is_negotiated();
        story.is_between_requests = inbox.is_between_requests();
    }
    story
}

fn descriptors(sent: Option<Sent>) -> ReceivedFds {
    match sent {
        None => ReceivedFds::None,
        Some(Sent::One) => ReceivedFds::One(descriptor()),
        Some(Sent::Lost) => ReceivedFds::Truncated,
        Some(Sent::Several) => ReceivedFds::Many(vec![descriptor(), descriptor()]),
    }
}

fn descriptor() -> OwnedFd {
    static NULL: OnceLock<File> = OnceLock::new();
    let null = NULL.get_or_init(|| File::open("/dev/null").unwrap());
    null.try_clone().unwrap().into()
}

/// Reads the protocol as `docs/interop/pr-helper.rst` has it, with all of the stream at hand.
fn read_whole(stream: &Stream<'_>) -> Story {
    let mut story = Story::default();
    match read_units(stream, &mut story) {
        Ok(is_between_requests) => story.is_between_requests = is_between_requests,
        Err(violation) => {
            story.violation = Some(violation);
            story.is_negotiated = false;
        }
    }
    story
}

/// Whether the stream ends between requests.
fn read_units(stream: &Stream<'_>, story: &mut Story) -> Result<bool, ProtocolError> {
    let Some(features) = unit(stream, 0, FEATURES_SIZE, None)? else {
        return Ok(stream.bytes.is_empty());
    };
    let features = u32::from_be_bytes(features.try_into().unwrap());
    if features != 0 {
        return Err(ProtocolError::UnknownFeatures(features));
    }
    story.is_negotiated = true;
    let mut at = FEATURES_SIZE;
    loop {
        let mut device = None;
        let Some(cdb) = unit(stream, at, CDB_SIZE, Some(&mut device))? else {
            return Ok(at == stream.bytes.len());
        };
        at += CDB_SIZE;
        let is_open = device.ok_or(ProtocolError::MissingFd)?;
        if !matches!(cdb[0], 0x5e | 0x5f) {
            return Err(ProtocolError::UnsupportedOpcode(cdb[0]));
        }
        let length = u16::from_be_bytes([cdb[7], cdb[8]]);
        if length > 8192 {
            return Err(ProtocolError::TooLong(length));
        }
        let length = if cdb[0] == 0x5f { length.into() } else { 0 };
        let Some(list) = unit(stream, at, length, None)? else {
            return Ok(false);
        };
        at += length;
        let cdb = cdb.try_into().unwrap();
        story.requests.push((cdb, list.to_vec(), is_open));
    }
}

/// `length` bytes, if they are there; with them no more than one descriptor, and that only where there is a
/// place for it.
fn unit<'a>(
    stream: &Stream<'a>,
    at: usize,
    length: usize,
    mut device: Option<&mut Option<bool>>,
) -> Result<Option<&'a [u8]>, ProtocolError> {
    let end = (at + length).min(stream.bytes.len());
    for sent in stream
        .descriptors
        .range(at..end.max(at))
        .map(|(_, sent)| sent)
    {
        match (sent, &mut device) {
            (Sent::Several, _) | (_, Some(Some(_))) => return Err(ProtocolError::TooManyFds),
            (_, None) => return Err(ProtocolError::UnexpectedFd),
            (sent, Some(device)) => **device = Some(matches!(sent, Sent::One)),
        }
    }
    Ok(stream.bytes.get(at..at + length))
}
