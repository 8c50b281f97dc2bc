// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layouts of sense data.

use scsi_pr::{AdditionalSense, FieldPointer, Sense, SenseError, SenseKey};

/// The layout that the C helper and QEMU use: 0x70, key at 2, additional length 10, code at 12.
#[test]
fn fixed_format_of_the_c_helper_round_trips() {
    let bytes = [
        0x70, 0, 0x05, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0,
    ];
    let sense = Sense::new(
        SenseKey::IllegalRequest,
        AdditionalSense::INVALID_FIELD_IN_CDB,
    );
    assert_eq!(Sense::decode(&bytes), Ok(sense));
    assert_eq!(sense.to_fixed(), bytes);
}

/// Byte 0: VALID. Byte 15: SKSV, C/D (the field is in the CDB), BPV, bit 3. Bytes 16 and 17: byte
/// 2.
#[test]
fn fixed_format_with_all_fields_round_trips() {
    let bytes = [
        0xf0, 0, 0x05, 0, 0, 0x12, 0x34, 0x0a, 0, 0, 0, 0, 0x24, 0, 0, 0xcb, 0, 2,
    ];
    let sense = Sense::decode(&bytes).unwrap();
    assert_eq!(sense.information, Some(0x1234));
    assert_eq!(
        sense.field_pointer,
        Some(FieldPointer {
            in_cdb: true,
            byte: 2,
            bit: Some(3)
        })
    );
    assert_eq!(sense.to_fixed(), bytes);
    assert_eq!(
        sense.to_string(),
        "ILLEGAL REQUEST, INVALID FIELD IN CDB (5/24/00), information 0x1234, CDB byte 2 bit 3"
    );
}

#[test]
fn descriptor_format_with_all_fields_is_decoded() {
    #[rustfmt::skip]
    let bytes = [
        0x72, 0x05, 0x26, 0x00, 0, 0, 0, 24, // header, 24 bytes follow
        0x01, 0x02, 0xaa, 0xaa, // an unknown descriptor is skipped
        0x00, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2, // INFORMATION
        0x02, 0x06, 0, 0, 0x80, 0, 20, 0, // field pointer: parameter list, byte 20
    ];
    let sense = Sense::decode(&bytes).unwrap();
    assert_eq!(sense.information, Some(0x1_0000_0002));
    assert_eq!(
        sense.field_pointer,
        Some(FieldPointer {
            in_cdb: false,
            byte: 20,
            bit: None
        })
    );
    assert_eq!(sense.code, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
}

#[test]
fn descriptor_format_without_fields_round_trips() {
    let sense = Sense {
        deferred: true,
        ..Sense::new(
            SenseKey::UnitAttention,
            AdditionalSense::RESERVATIONS_PREEMPTED,
        )
    };
    assert_eq!(sense.to_descriptor(), [0x73, 6, 0x2a, 3, 0, 0, 0, 0]);
    assert_eq!(Sense::decode(&sense.to_descriptor()), Ok(sense));
    assert!(sense.to_string().ends_with("(6/2a/03), deferred"));
}

#[test]
fn short_sense_data_is_decoded() {
    let key_only = Sense::new(SenseKey::NotReady, AdditionalSense::default());
    // Truncated after the key, and complete with an additional length of zero.
    assert_eq!(Sense::decode(&[0x70, 0, 2]), Ok(key_only));
    let mut complete = Sense::new(SenseKey::NotReady, AdditionalSense::OFFLINE).to_fixed();
    complete[7] = 0;
    assert_eq!(Sense::decode(&complete), Ok(key_only));
}

#[test]
fn field_pointer_requires_illegal_request() {
    // With UNIT ATTENTION the same bytes report an overflow of the queue.
    let mut bytes = Sense::new(SenseKey::UnitAttention, AdditionalSense::default()).to_fixed();
    bytes[15] = 0x81;
    assert_eq!(Sense::decode(&bytes).unwrap().field_pointer, None);
}

#[test]
fn invalid_sense_data_is_rejected() {
    for (bytes, error) in [
        (&[][..], SenseError::TooShort { length: 0 }),
        (&[0x70, 0], SenseError::TooShort { length: 2 }),
        (&[0x72], SenseError::TooShort { length: 1 }),
        (&[0x00; 18], SenseError::ResponseCode(0)),
        (&[0xff; 18], SenseError::ResponseCode(0x7f)),
    ] {
        assert_eq!(Sense::decode(bytes), Err(error));
    }
}
