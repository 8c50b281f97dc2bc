// SPDX-License-Identifier: MIT OR Apache-2.0

//! TransportIDs: bytes, value and text can be converted into each other.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use scsi_pr::{TransportId, TransportIds};

fuzz::target!(run);

/// Input: a TransportID or a list of them in bytes, or a TransportID as text.
fn run(bytes: &[u8]) {
    if let Ok((id, length)) = TransportId::decode_first(bytes) {
        assert_eq!(TransportId::decode(&bytes[..length]), Ok(id.clone()));
        assert_eq!(TransportId::decode(bytes).is_ok(), length == bytes.len());
        check(&id);
        match id {
            TransportId::Iscsi(_) => {
                assert!(length >= 24 && length.is_multiple_of(4) && id.encoded_len() <= length + 4);
            }
            _ => assert_eq!(id.encode(), without_reserved(&bytes[..length])),
        }
    }
    check_list(bytes);
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(id) = text.parse()
    {
        check(&id);
    }
}

fn check(id: &TransportId) {
    let encoded = id.encode();
    assert_eq!(encoded.len(), id.encoded_len());
    assert_eq!(TransportId::decode(&encoded).as_ref(), Ok(id));
    let text = id.to_string();
    assert_eq!(text.parse().as_ref(), Ok(id), "{text}");
}

fn check_list(bytes: &[u8]) {
    let mut offset = 0;
    for id in TransportIds::new(bytes) {
        match id {
            Ok(id) => {
                let (first, length) = TransportId::decode_first(&bytes[offset..]).unwrap();
                assert_eq!(id, first);
                offset += length;
            }
            Err(error) => {
                assert_eq!(error.offset, offset);
                let _ = error.to_string();
                return;
            }
        }
    }
    assert_eq!(offset, bytes.len());
}

/// Returns a TransportID of 24 bytes with zeros wherever its protocol (SPC-4, 7.6.4) has no field.
fn without_reserved(bytes: &[u8]) -> Vec<u8> {
    let protocol = bytes[0] & 0x0f;
    let is_field = |index| match protocol {
        0 | 3 => matches!(index, 8..16),
        1 => matches!(index, 2..4 | 6..8),
        4 => matches!(index, 8..24),
        6 => matches!(index, 4..12),
        0xa => matches!(index, 2..4),
        _ => true,
    };
    let mut masked = bytes.to_vec();
    for (index, byte) in masked.iter_mut().enumerate() {
        *byte = match (index, is_field(index)) {
            (_, true) => *byte,
            (0, false) => protocol,
            _ => 0,
        };
    }
    masked
}
