//! TransportIDs: bytes, value and text are the same name.

use scsi_pr::{TransportId, TransportIds};

/// As one, as a list, and as text.
pub fn run(bytes: &[u8]) {
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
    let mut at = 0;
    for id in TransportIds::new(bytes) {
        match id {
            Ok(id) => {
                let (first, length) = TransportId::decode_first(&bytes[at..]).unwrap();
                assert_eq!(id, first);
                at += length;
            }
            Err(error) => {
                assert_eq!(error.offset, at);
                let _ = error.to_string();
                return;
            }
        }
    }
    assert_eq!(at, bytes.len());
}

/// A TransportID of 24 bytes, with zeros in all places where its protocol (SPC-4, 7.6.4) has no field.
fn without_reserved(bytes: &[u8]) -> Vec<u8> {
    let protocol = bytes[0] & 0x0f;
    let is_field = |place| match protocol {
        0 | 3 => matches!(place, 8..16),
        1 => matches!(place, 2..4 | 6..8),
        4 => matches!(place, 8..24),
        6 => matches!(place, 4..12),
        0xa => matches!(place, 2..4),
        _ => true,
    };
    let mut kept = bytes.to_vec();
    for (place, byte) in kept.iter_mut().enumerate() {
        *byte = match (place, is_field(place)) {
            (_, true) => *byte,
            (0, false) => protocol,
            _ => 0,
        };
    }
    kept
}
