// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layouts and text forms of TransportIDs.

use scsi_pr::{
    AdditionalSense, HexError, IscsiName, IscsiNameError, IscsiTransportId, Isid, IsidError,
    OpaqueTransportId, ParameterListError, ProtocolIdentifier, RelativeTargetPort, TransportId,
    TransportIdError, TransportIdTextError, TransportIds,
};

/// Pads `front` with zeros to 24 bytes.
fn padded(front: &[u8]) -> Vec<u8> {
    let mut bytes = front.to_vec();
    bytes.resize(24, 0);
    bytes
}

/// Builds an iSCSI TransportID with this first byte and text, zero-padded to `additional` bytes.
fn iscsi(first: u8, text: &str, additional: u8) -> Vec<u8> {
    let mut bytes = vec![first, 0, 0, additional];
    bytes.extend(text.bytes());
    bytes.resize(4 + usize::from(additional), 0);
    bytes
}

#[test]
fn all_fixed_layouts_round_trip() {
    #[rustfmt::skip]
    let table: [(&[u8], TransportId, &str); 6] = [
        // N_PORT_NAME at 8. The value is the example of sg_persist(8).
        (
            &[0x00, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0xc9, 0xf3, 0xa5, 0x71],
            TransportId::FibreChannel { n_port_name: 0x1000_0000_c9f3_a571 },
            "fcp,10000000c9f3a571",
        ),
        // SCSI ADDRESS at 2, RELATIVE TARGET PORT IDENTIFIER at 6.
        (
            &[0x01, 0, 0, 7, 0, 0, 0, 1],
            TransportId::Spi { scsi_address: 7, relative_target_port: RelativeTargetPort::new(1) },
            "spi,7,1",
        ),
        // EUI-64 NAME at 8.
        (
            &[0x03, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xc9, 3, 0, 0xa1, 0xb2, 0xc3],
            TransportId::Sbp { eui64: 0x0002_c903_00a1_b2c3 },
            "sbp,0002c90300a1b2c3",
        ),
        // INITIATOR PORT IDENTIFIER from 8 to the end.
        (
            &[0x04, 0, 0, 0, 0, 0, 0, 0,
              0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0xf4, 0x52, 0x14, 3, 0, 0x7b, 0xe1, 0x21],
            TransportId::Srp { initiator_port: 0xfe80_0000_0000_0000_f452_1403_007b_e121 },
            "srp,fe80000000000000f4521403007be121",
        ),
        // SAS ADDRESS at 4. Bytes and text are from sg_persist(8).
        (
            &[0x06, 0, 0, 0, 0x50, 0, 0xc5, 0, 0x05, 0xb3, 0x20, 0x01],
            TransportId::Sas { sas_address: 0x5000_c500_05b3_2001 },
            "sas,5000c50005b32001",
        ),
        // ROUTING ID at 2.
        (
            &[0x0a, 0, 0x03, 0x00],
            TransportId::Sop { routing_id: 0x0300 },
            "sop,0300",
        ),
    ];
    for (front, id, text) in table {
        let bytes = padded(front);
        assert_eq!(TransportId::decode(&bytes).as_ref(), Ok(&id));
        assert_eq!(id.encode(), bytes);
        assert_eq!(id.encoded_len(), 24);
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
    }
}

#[test]
fn reserved_fields_are_ignored() {
    let mut bytes = [0xff; 24];
    bytes[0] = 0x36;
    assert_eq!(
        TransportId::decode(&bytes),
        Ok(TransportId::Sas {
            sas_address: u64::MAX
        })
    );
}

#[test]
fn id_without_a_layout_keeps_its_bytes() {
    for protocol in [0x2, 0x7, 0x8, 0x9, 0xb, 0xc, 0xd, 0xe, 0xf] {
        let bytes: [u8; 24] = std::array::from_fn(|i| if i == 0 { 0xf0 | protocol } else { 9 });
        let id = TransportId::decode(&bytes).unwrap();
        assert_eq!(
            id,
            TransportId::Opaque(OpaqueTransportId::new(bytes).unwrap())
        );
        assert_eq!(id.protocol(), ProtocolIdentifier::from_low_bits(protocol));
        assert_eq!(id.encode(), bytes);
    }
    assert_eq!(OpaqueTransportId::new([6; 24]), None);
}

#[test]
fn iscsi_name_is_padded_to_a_multiple_of_four() {
    // 29 characters and a NUL are 30 bytes. The next multiple of 4 is 32.
    let bytes = iscsi(0x05, "iqn.1993-08.org.debian:01:abc", 32);
    let id = TransportId::decode(&bytes).unwrap();
    assert_eq!(id.to_string(), "iqn.1993-08.org.debian:01:abc");
    assert_eq!(id.encode(), bytes);
    assert_eq!(id.encoded_len(), 36);
}

#[test]
fn iscsi_name_of_24_bytes_gets_four_nuls() {
    let id: TransportId = "iqn.1993-08.org.debian:0".parse().unwrap();
    assert_eq!(id.encode(), iscsi(0x05, "iqn.1993-08.org.debian:0", 28));
}

#[test]
fn short_iscsi_name_gets_the_minimum_length() {
    let id: TransportId = "iqn.x".parse().unwrap();
    assert_eq!(id.encode(), iscsi(0x05, "iqn.x", 20));
}

#[test]
fn iscsi_port_round_trips() {
    let text = "iqn.1993-08.org.debian:01:abc,i,0x00023d000001";
    let bytes = iscsi(0x45, text, 48);
    let id = TransportId::decode(&bytes).unwrap();
    assert_eq!(
        id,
        TransportId::Iscsi(IscsiTransportId {
            name: IscsiName::new("iqn.1993-08.org.debian:01:abc").unwrap(),
            isid: Isid::new(0x0002_3d00_0001),
        })
    );
    assert_eq!(id.to_string(), text);
    assert_eq!(id.encode(), bytes);
}

#[test]
fn iscsi_name_without_nul_is_decoded() {
    // 20 characters fill the additional length of 20.
    let id = TransportId::decode(&iscsi(0x05, "iqn.1993-08.org.debi", 20)).unwrap();
    assert_eq!(id.to_string(), "iqn.1993-08.org.debi");
}

#[test]
fn non_standard_iscsi_name_displays_with_a_prefix() {
    let id = TransportId::decode(&iscsi(0x05, "fcp", 20)).unwrap();
    assert_eq!(id.to_string(), "iscsi,fcp");
    assert_eq!("iscsi,fcp".parse(), Ok(id));
}

/// Asserts that decoding `bytes` fails with `error`.
fn assert_rejected(bytes: &[u8], error: TransportIdError) {
    assert_eq!(TransportId::decode(bytes), Err(error), "{bytes:x?}");
    let sense = ParameterListError::from(error).additional_sense();
    assert_eq!(sense, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
}

#[test]
fn id_of_wrong_length_is_rejected() {
    for (bytes, given) in [(vec![], 0), (vec![6; 23], 23), (vec![5; 3], 3)] {
        assert_rejected(&bytes, TransportIdError::TooShort { needed: 24, given });
    }
    assert_rejected(
        &[0; 25],
        TransportIdError::TooLong {
            needed: 24,
            given: 25,
        },
    );
    let bytes = iscsi(0x05, "iqn.x", 24);
    assert_rejected(
        &bytes[..24],
        TransportIdError::TooShort {
            needed: 28,
            given: 24,
        },
    );
}

#[test]
fn reserved_format_is_rejected() {
    for (first, protocol, format) in [
        (0x46, ProtocolIdentifier::SAS, 1),
        (0xc0, ProtocolIdentifier::FCP, 3),
        (0x85, ProtocolIdentifier::ISCSI, 2),
    ] {
        let error = TransportIdError::ReservedFormat { protocol, format };
        assert_rejected(&iscsi(first, "iqn.x", 20), error);
    }
}

#[test]
fn invalid_iscsi_id_is_rejected() {
    let length = |additional| TransportIdError::IscsiLength { additional };
    let name = TransportIdError::IscsiName;
    let isid = |error| TransportIdError::Isid(IsidError::Digits(error));
    for (first, text, additional, error) in [
        (0x05, "iqn.x", 16, length(16)),
        (0x05, "iqn.x", 22, length(22)),
        (0x05, "", 20, name(IscsiNameError::Empty)),
        (0x05, "iqn.x,y", 20, name(IscsiNameError::Character(','))),
        (0x45, "iqn.x", 20, TransportIdError::IscsiSeparator),
        (0x45, "x,i,0x", 20, isid(HexError::Empty)),
        (0x45, "x,i,0x00023d00000g", 20, isid(HexError::Digit('g'))),
        (
            0x45,
            "x,i,0x0123456789abc",
            20,
            isid(HexError::TooLong { max: 12 }),
        ),
    ] {
        assert_rejected(&iscsi(first, text, additional), error);
    }
}

#[test]
fn iscsi_name_over_223_bytes_is_rejected() {
    assert!(IscsiName::new(&"x".repeat(223)).is_ok());
    assert_eq!(
        IscsiName::new(&"x".repeat(224)),
        Err(IscsiNameError::TooLong { length: 224 })
    );
}

#[test]
fn list_of_ids_of_different_lengths_is_decoded() {
    let first: TransportId = "sas,5000c50005b32001".parse().unwrap();
    let second: TransportId = "iqn.1993-08.org.debian:01:abc".parse().unwrap();
    let bytes = [first.encode(), second.encode(), first.encode()].concat();
    let list: Vec<_> = TransportIds::new(&bytes).map(Result::unwrap).collect();
    assert_eq!(list, [first.clone(), second, first]);
}

#[test]
fn invalid_text_is_rejected() {
    let hex = TransportIdTextError::Hex;
    for (text, error) in [
        ("", TransportIdTextError::Prefix),
        ("sas", TransportIdTextError::Prefix),
        ("nvme,1", TransportIdTextError::Prefix),
        ("sas,5000c50005b3200", hex(HexError::TooShort { min: 16 })),
        ("sas,5000c50005b320011", hex(HexError::TooLong { max: 16 })),
        ("fcp,10:00:00:00:c9:f3:a5:71", hex(HexError::Digit(':'))),
        ("sop,10000", hex(HexError::TooLong { max: 4 })),
        ("spi,7", TransportIdTextError::SpiPort),
        (
            "raw,060000000000000000000000000000000000000000000000",
            TransportIdTextError::RawLayout,
        ),
    ] {
        assert_eq!(text.parse::<TransportId>(), Err(error), "{text}");
    }
}
