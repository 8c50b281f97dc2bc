// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests that the decoder yields exactly the requests sent, however the stream is split into reads.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::fs::File;
use std::os::fd::OwnedFd;

use pr_helper_protocol::decoder::Progress;
use pr_helper_protocol::fd_passing::ReceivedFds;
use pr_helper_protocol::wire::CLEANUP;
use pr_helper_protocol::{ProtocolError, Request, RequestDecoder, RequestFd};
use proptest::collection::vec;
use proptest::prelude::*;

fn open_fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// A client's request, and the index of the CDB byte that carries the descriptor.
#[derive(Clone, Debug)]
struct SentRequest {
    cdb: [u8; 16],
    parameters: Vec<u8>,
    fd_at: usize,
}

prop_compose! {
    fn sent_request()(
        mut cdb in any::<[u8; 16]>(),
        opcode in prop_oneof![Just(0x5e), Just(0x5f), Just(CLEANUP)],
        parameters in vec(any::<u8>(), 0..64),
        fd_at in 0..16_usize,
    ) -> SentRequest {
        let length = u16::try_from(parameters.len()).unwrap();
        cdb[0] = opcode;
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        let parameters = if opcode == 0x5f { parameters } else { Vec::new() };
        SentRequest { cdb, parameters, fd_at }
    }
}

/// Feeds `stream` to `decoder` in reads of the lengths in `cuts`, repeated in a cycle, with a
/// descriptor at each offset in `fds_at`.
fn feed(
    decoder: &mut RequestDecoder,
    stream: &[u8],
    fds_at: &[usize],
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
        let mut fds = fds_at
            .iter()
            .filter(|offset| (at..at + count).contains(*offset));
        let received = match (fds.next(), fds.next()) {
            (None, _) => ReceivedFds::None,
            (Some(_), None) => ReceivedFds::One(open_fd()),
            (Some(_), Some(_)) => ReceivedFds::Many(vec![open_fd(), open_fd()]),
        };
        at += count;
        if let Progress::Request(request) = decoder.advance(count, received)? {
            requests.push(request);
        }
    }
    Ok(requests)
}

proptest! {
    #[test]
    fn split_stream_yields_requests_as_sent(
        sent in vec(sent_request(), 1..6),
        cuts in vec(1..40_usize, 1..20),
    ) {
        let mut stream = vec![0; 4];
        let mut fds_at = Vec::new();
        for request in &sent {
            fds_at.push(stream.len() + request.fd_at);
            stream.extend(request.cdb);
            stream.extend(&request.parameters);
        }
        let mut decoder = RequestDecoder::new();
        let received = feed(&mut decoder, &stream, &fds_at, &cuts).unwrap();
        prop_assert!(decoder.is_between_requests());
        prop_assert_eq!(received.len(), sent.len());
        for (received, sent) in received.iter().zip(&sent) {
            prop_assert_eq!(received.command.cdb(), &sent.cdb);
            prop_assert_eq!(&received.parameters, &sent.parameters);
            prop_assert!(matches!(received.fd, RequestFd::Open(_)));
        }
    }

    #[test]
    fn any_bytes_yield_requests_or_an_error(
        stream in vec(any::<u8>(), 0..300),
        fds_at in vec(0..300_usize, 0..6),
        cuts in vec(1..40_usize, 1..20),
        opcode in prop_oneof![Just(0x5e), Just(0x5f), Just(CLEANUP), any::<u8>()],
        is_greeted in any::<bool>(),
    ) {
        let mut stream = stream;
        if is_greeted && stream.len() > 4 {
            stream[..4].fill(0);
            stream[4] = opcode;
        }
        // The decoder must not panic, and every request must be within the limits.
        let requests = feed(&mut RequestDecoder::new(), &stream, &fds_at, &cuts);
        for request in requests.unwrap_or_default() {
            prop_assert!(request.parameters.len() <= 8192);
        }
    }
}

/// Decodes `stream`, with descriptors at these offsets, and returns the number of requests.
fn count_requests(stream: &[u8], fds_at: &[usize]) -> Result<usize, ProtocolError> {
    feed(&mut RequestDecoder::new(), stream, fds_at, &[8192]).map(|requests| requests.len())
}

/// Builds the stream of a client that sends `cdb` and a parameter list of zeros.
fn stream(cdb: &[u8], parameters: usize) -> Vec<u8> {
    let mut stream = vec![0; 4];
    stream.extend(cdb);
    stream.resize(20 + parameters, 0);
    stream
}

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

#[test]
fn unoffered_features_are_rejected() {
    for bits in [2, 3, 0x0100_0000, u32::MAX] {
        assert_eq!(
            count_requests(&bits.to_be_bytes(), &[]),
            Err(ProtocolError::UnknownFeatures(bits))
        );
    }
}

#[test]
fn cleanup_is_decoded_with_and_without_the_feature() {
    for features in [0, 1] {
        // No parameters follow, whatever the length field contains.
        let mut bytes = stream(&[CLEANUP, 0, 0, 0, 0, 0, 0, 0x20, 1, 0], 0);
        bytes[3] = features;
        bytes.extend(&stream(&READ_KEYS, 0)[4..]);
        assert_eq!(count_requests(&bytes, &[4, 20]), Ok(2), "{features}");
        assert_eq!(count_requests(&bytes, &[20]), Err(ProtocolError::MissingFd));
    }
}

#[test]
fn request_without_exactly_one_fd_is_rejected() {
    assert_eq!(count_requests(&stream(&READ_KEYS, 0), &[4]), Ok(1));
    assert_eq!(
        count_requests(&stream(&READ_KEYS, 0), &[]),
        Err(ProtocolError::MissingFd)
    );
    assert_eq!(
        count_requests(&stream(&READ_KEYS, 0), &[4, 19]),
        Err(ProtocolError::TooManyFds)
    );
}

#[test]
fn second_fd_in_a_later_read_is_rejected() {
    let stream = stream(&READ_KEYS, 0);
    let result = feed(&mut RequestDecoder::new(), &stream, &[4, 19], &[4, 8, 8]);
    assert_eq!(result.unwrap_err(), ProtocolError::TooManyFds);
}

#[test]
fn fd_outside_of_a_cdb_is_rejected() {
    assert_eq!(
        count_requests(&stream(&READ_KEYS, 0), &[0]),
        Err(ProtocolError::UnexpectedFd)
    );
    assert_eq!(
        count_requests(&stream(&REGISTER, 24), &[4, 30]),
        Err(ProtocolError::UnexpectedFd)
    );
}

#[test]
fn other_opcodes_and_long_transfers_are_rejected() {
    assert_eq!(
        count_requests(&stream(&[0x12, 0, 0, 0, 36, 0], 0), &[4]),
        Err(ProtocolError::UnsupportedOpcode(0x12))
    );
    let long = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 1, 0];
    assert_eq!(
        count_requests(&stream(&long, 0), &[4]),
        Err(ProtocolError::TooLong(8193))
    );
}

#[test]
fn longest_parameter_list_is_accepted() {
    let longest = [0x5f, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    assert_eq!(count_requests(&stream(&longest, 8192), &[4]), Ok(1));
}

#[test]
fn stream_end_within_a_request_is_truncation() {
    let mut decoder = RequestDecoder::new();
    feed(&mut decoder, &stream(&REGISTER, 23), &[4], &[8192]).unwrap();
    assert!(!decoder.is_between_requests());
    assert_eq!(
        decoder.advance(0, ReceivedFds::None).unwrap_err(),
        ProtocolError::Truncated
    );
}

#[test]
fn undelivered_fd_still_yields_a_request() {
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
