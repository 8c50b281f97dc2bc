//! Sense data: what was read can be written in both formats, and reads the same.

use scsi_pr::Sense;

/// Sense data, as a device sends it.
pub fn run(bytes: &[u8]) {
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
    // What comes behind it, as in QEMU's protocol, changes nothing.
    for encoded in [descriptors, fixed.to_vec()] {
        let mut padded = encoded.clone();
        padded.resize(96, 0xff);
        assert_eq!(Sense::decode(&padded), Sense::decode(&encoded));
    }
    // Cut off by a host adapter it says less, and nothing else.
    for length in 8..bytes.len().min(64) {
        let cut = Sense::decode(&bytes[..length]).unwrap();
        assert_eq!((cut.key, cut.deferred), (sense.key, sense.deferred));
        assert!([None, sense.information].contains(&cut.information) || bytes[0] & 0x7f >= 0x72);
    }
}
