//! Requests come out of a decoder whole, however their bytes were cut, and nothing else does.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs::File;
use std::os::fd::OwnedFd;

use pr_helper_protocol::decoder::Progress;
use pr_helper_protocol::fd_passing::ReceivedFds;
use pr_helper_protocol::{ProtocolError, Request, RequestDecoder, RequestFd};
use proptest::collection::vec;
use proptest::prelude::*;

fn descriptor() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// A client's request: its bytes, and with which of the CDB's the descriptor comes.
#[derive(Clone, Debug)]
struct Sent {
    cdb: [u8; 16],
    parameters: Vec<u8>,
    descriptor_at: usize,
}

prop_compose! {
    fn sent()(
        mut cdb in any::<[u8; 16]>(),
        is_out in any::<bool>(),
        parameters in vec(any::<u8>(), 0..64),
        descriptor_at in 0..16_usize,
    ) -> Sent {
        let length = u16::try_from(parameters.len()).unwrap();
        cdb[0] = if is_out { 0x5f } else { 0x5e };
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        Sent { cdb, parameters: if is_out { parameters } else { Vec::new() }, descriptor_at }
    }
}

/// Hands `stream` to `decoder` in pieces of the lengths that `cuts` gives in turn.
fn feed(
    decoder: &mut RequestDecoder,
    stream: &[u8],
    descriptors_at: &[usize],
    cuts: &[usize],
) -> Result<Vec<Request>, ProtocolError> {
    let mut requests = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut at = 0;
    while at < stream.len() {
        let space = decoder.buffer();
        assert!(!space.is_empty());
        let count = space
            .len()
            .min(*cuts.next().unwrap())
            .min(stream.len() - at);
        space[..count].copy_from_slice(&stream[at..at + count]);
        let mut with = descriptors_at
            .iter()
            .filter(|place| (at..at + count).contains(*place));
        let descriptors = match (with.next(), with.next()) {
            (None, _) => ReceivedFds::None,
            (Some(_), None) => ReceivedFds::One(descriptor()),
            (Some(_), Some(_)) => ReceivedFds::Many(vec![descriptor(), descriptor()]),
        };
        at += count;
        if let Progress::Request(request) = decoder.advance(count, descriptors)? {
            requests.push(request);
        }
    }
    Ok(requests)
}

proptest! {
    #[test]
    fn requests_come_out_as_they_were_sent(
        sent in vec(sent(), 1..6),
        cuts in vec(1..40_usize, 1..20),
    ) {
        let mut stream = vec![0; 4];
        let mut descriptors_at = Vec::new();
        for request in &sent {
            descriptors_at.push(stream.len() + request.descriptor_at);
            stream.extend(request.cdb);
            stream.extend(&request.parameters);
        }
        let mut decoder = RequestDecoder::new();
        let received = feed(&mut decoder, &stream, &descriptors_at, &cuts).unwrap();
        prop_assert!(decoder.is_between_requests());
        prop_assert_eq!(received.len(), sent.len());
        for (received, sent) in received.iter().zip(&sent) {
            prop_assert_eq!(received.command.cdb(), &sent.cdb);
            prop_assert_eq!(&received.parameters, &sent.parameters);
            prop_assert!(matches!(received.fd, RequestFd::Open(_)));
        }
    }

    #[test]
    fn any_bytes_give_requests_or_a_violation(
        stream in vec(any::<u8>(), 0..300),
        descriptors_at in vec(0..300_usize, 0..6),
        cuts in vec(1..40_usize, 1..20),
        opcode in prop_oneof![Just(0x5e), Just(0x5f), any::<u8>()],
        is_greeted in any::<bool>(),
    ) {
        let mut stream = stream;
        if is_greeted && stream.len() > 4 {
            stream[..4].fill(0);
            stream[4] = opcode;
        }
        // Whatever it is, it does not panic, and nothing but whole commands comes out.
        for request in feed(&mut RequestDecoder::new(), &stream, &descriptors_at, &cuts).unwrap_or_default() {
            prop_assert!(request.parameters.len() <= 8192);
        }
    }
}

/// What becomes of a connection that has sent `stream`, with descriptors at these places.
fn outcome(stream: &[u8], descriptors_at: &[usize]) -> Result<usize, ProtocolError> {
    feed(&mut RequestDecoder::new(), stream, descriptors_at, &[8192]).map(|requests| requests.len())
}

fn stream(cdb: &[u8], parameters: usize) -> Vec<u8> {
    let mut stream = vec![0; 4];
    stream.extend(cdb);
    stream.resize(20 + parameters, 0);
    stream
}

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

#[test]
fn features_that_are_not_offered_are_a_violation() {
    assert_eq!(
        outcome(&[0, 0, 0, 1], &[]),
        Err(ProtocolError::UnknownFeatures(1))
    );
}

#[test]
fn a_request_needs_exactly_one_descriptor() {
    assert_eq!(outcome(&stream(&READ_KEYS, 0), &[4]), Ok(1));
    assert_eq!(
        outcome(&stream(&READ_KEYS, 0), &[]),
        Err(ProtocolError::MissingFd)
    );
    assert_eq!(
        outcome(&stream(&READ_KEYS, 0), &[4, 19]),
        Err(ProtocolError::TooManyFds)
    );
}

#[test]
fn a_second_descriptor_in_a_later_piece_is_a_violation() {
    let stream = stream(&READ_KEYS, 0);
    let result = feed(&mut RequestDecoder::new(), &stream, &[4, 19], &[4, 8, 8]);
    assert_eq!(result.unwrap_err(), ProtocolError::TooManyFds);
}

#[test]
fn a_descriptor_outside_of_a_cdb_is_a_violation() {
    assert_eq!(
        outcome(&stream(&READ_KEYS, 0), &[0]),
        Err(ProtocolError::UnexpectedFd)
    );
    assert_eq!(
        outcome(&stream(&REGISTER, 24), &[4, 30]),
        Err(ProtocolError::UnexpectedFd)
    );
}

#[test]
fn foreign_opcodes_and_long_transfers_are_violations() {
    assert_eq!(
        outcome(&stream(&[0x12, 0, 0, 0, 36, 0], 0), &[4]),
        Err(ProtocolError::UnsupportedOpcode(0x12))
    );
    let long = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 1, 0];
    assert_eq!(
        outcome(&stream(&long, 0), &[4]),
        Err(ProtocolError::TooLong(8193))
    );
}

#[test]
fn the_longest_parameter_list_is_taken() {
    let longest = [0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    assert_eq!(outcome(&stream(&longest, 8192), &[4]), Ok(1));
}

#[test]
fn a_stream_that_ends_within_a_request_is_truncated() {
    let mut decoder = RequestDecoder::new();
    feed(&mut decoder, &stream(&REGISTER, 23), &[4], &[8192]).unwrap();
    assert!(!decoder.is_between_requests());
    assert_eq!(
        decoder.advance(0, ReceivedFds::None).unwrap_err(),
        ProtocolError::Truncated
    );
}

#[test]
fn a_lost_descriptor_leaves_a_request_that_can_be_answered() {
    let mut decoder = RequestDecoder::new();
    feed(&mut decoder, &[0; 4], &[], &[4]).unwrap();
    let space = decoder.buffer();
    space.fill(0);
    space[..10].copy_from_slice(&READ_KEYS);
    match decoder.advance(16, ReceivedFds::Truncated).unwrap() {
        Progress::Request(request) => assert!(matches!(request.fd, RequestFd::Lost)),
        other => panic!("{other:?}"),
    }
}
