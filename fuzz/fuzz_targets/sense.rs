// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sense data: decoded sense data can be encoded in both formats and decodes to the same value.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use scsi_pr::Sense;

fuzz::target!(run);

/// Input: sense data of a device.
fn run(bytes: &[u8]) {
    let sense = match Sense::decode(bytes) {
        Ok(sense) => sense,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let _ = sense.to_string();
    let descriptors = sense.to_descriptor();
    assert_eq!(Sense::decode(&descriptors), Ok(sense));
    let narrow = Sense {
        information: sense.information.filter(|value| *value <= u32::MAX.into()),
        ..sense
    };
    let fixed = sense.to_fixed();
    assert_eq!(Sense::decode(&fixed), Ok(narrow));
    // Bytes after the sense data, as in QEMU's protocol, are ignored.
    for encoded in [descriptors, fixed.to_vec()] {
        let mut padded = encoded.clone();
        padded.resize(96, 0xff);
        assert_eq!(Sense::decode(&padded), Sense::decode(&encoded));
    }
    // Sense data that a host adapter has truncated can lack fields, but its other fields are the
    // same.
    for length in 8..bytes.len().min(64) {
        let cut = Sense::decode(&bytes[..length]).unwrap();
        assert_eq!((cut.key, cut.deferred), (sense.key, sense.deferred));
        assert!([None, sense.information].contains(&cut.information) || bytes[0] & 0x7f >= 0x72);
    }
}
