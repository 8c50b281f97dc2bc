// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layouts of parameter data, complete and truncated.

use scsi_pr::{
    AllowCommands, Capabilities, FullStatus, FullStatusDescriptor, Keys, ParameterDataError,
    PrGeneration, RelativeTargetPort, ReservationData, ReservationDescriptor, ReservationKey,
    ReservationType, ScopeType, TransportId, TransportIdError, TypeMask, truncate,
};

/// READ KEYS data: generation 4, two keys.
const KEYS: [u8; 24] = [
    0, 0, 0, 4, 0, 0, 0, 16, // header
    0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, // key
    0, 0, 0, 0, 0, 0, 0x0d, 0xef, // key
];

#[test]
fn keys_round_trip() {
    let keys = Keys {
        generation: PrGeneration::new(4),
        keys: vec![ReservationKey::new(0x12_3abc), ReservationKey::new(0xdef)],
    };
    let decoded = Keys::decode(&KEYS).unwrap();
    assert!(decoded.is_complete());
    assert_eq!(decoded.value, keys);
    assert_eq!(keys.encode(), KEYS);
    assert_eq!(keys.to_string(), "generation 0x4, 2 keys 0x123abc 0xdef");
}

#[test]
fn empty_key_list_is_decoded() {
    let bytes = [0, 0, 0, 9, 0, 0, 0, 0];
    assert_eq!(Keys::decode(&bytes).unwrap().value.keys, []);
}

#[test]
fn truncated_keys_are_counted() {
    for (allocation_length, keys, missing) in [(8, 0, 16), (15, 0, 9), (16, 1, 8), (23, 1, 1)] {
        let decoded = Keys::decode(truncate(&KEYS, allocation_length)).unwrap();
        assert_eq!(decoded.value.keys.len(), keys);
        assert_eq!(decoded.missing, missing);
        assert_eq!(decoded.complete(), None);
    }
}

#[test]
fn padding_after_the_list_is_ignored() {
    let mut bytes = KEYS.to_vec();
    bytes.resize(8192, 0);
    assert_eq!(Keys::decode(&bytes), Keys::decode(&KEYS));
}

#[test]
fn declared_length_allocates_no_memory() {
    let bytes = [0, 0, 0, 4, 0xff, 0xff, 0xff, 0xf8];
    let decoded = Keys::decode(&bytes).unwrap();
    assert_eq!(decoded.value.keys.capacity(), 0);
    assert_eq!(decoded.missing, 0xffff_fff8);
}

#[test]
fn keys_of_a_partial_length_are_rejected() {
    let bytes = [0, 0, 0, 4, 0, 0, 0, 12];
    assert_eq!(Keys::decode(&bytes), Err(ParameterDataError::Length(12)));
}

#[test]
fn data_without_a_header_is_rejected() {
    let error = ParameterDataError::TooShort {
        needed: 8,
        given: 7,
    };
    assert_eq!(Keys::decode(&[0; 7]), Err(error));
    assert_eq!(ReservationData::decode(&[0; 7]), Err(error));
    assert_eq!(Capabilities::decode(&[0; 7]), Err(error));
    assert_eq!(FullStatus::decode(&[0; 7]), Err(error));
}

/// READ RESERVATION data: generation 4, key 0x123abc, Write Exclusive - Registrants Only at byte
/// 21.
#[rustfmt::skip]
const RESERVATION: [u8; 24] = [
    0, 0, 0, 4, 0, 0, 0, 16,
    0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0, 0x05, 0, 0,
];

#[test]
fn reservation_round_trips() {
    let data = ReservationData {
        generation: PrGeneration::new(4),
        reservation: Some(ReservationDescriptor {
            key: ReservationKey::new(0x12_3abc),
            scope_type: ReservationType::WriteExclusiveRegistrantsOnly.into(),
        }),
    };
    assert_eq!(ReservationData::decode(&RESERVATION), Ok(data));
    assert_eq!(data.encode(), RESERVATION);
    assert_eq!(
        data.to_string(),
        "generation 0x4, reservation key 0x123abc, type Write Exclusive - Registrants Only"
    );
}

#[test]
fn absent_reservation_round_trips() {
    let bytes = [0, 0, 0, 4, 0, 0, 0, 0];
    let data = ReservationData::decode(&bytes).unwrap();
    assert_eq!(data.reservation, None);
    assert_eq!(data.encode(), bytes);
    assert_eq!(data.to_string(), "generation 0x4, no reservation");
}

/// Truncated data must not look like "no reservation".
#[test]
fn truncated_reservation_is_an_error() {
    let error = ParameterDataError::TooShort {
        needed: 24,
        given: 23,
    };
    assert_eq!(ReservationData::decode(&RESERVATION[..23]), Err(error));
}

// The data of Linux's target: CRH, SIP_C, ATP_C, PTPL_C; TMV, allow commands 1; all six types.
#[test]
fn capabilities_of_linux_target_round_trip() {
    let bytes = [0, 8, 0x1d, 0x90, 0xea, 0x01, 0, 0];
    let capabilities = Capabilities {
        compatible_reservation_handling: true,
        specify_initiator_ports: true,
        all_target_ports: true,
        persist_through_power_loss: true,
        allow_commands: AllowCommands::new(1).unwrap(),
        type_mask: Some(TypeMask::ALL),
        ..Capabilities::default()
    };
    assert_eq!(Capabilities::decode(&bytes), Ok(capabilities));
    assert_eq!(capabilities.encode(), bytes);
    assert_eq!(
        capabilities.to_string(),
        "capabilities CRH SIP_C ATP_C PTPL_C, allow commands 1, \
         types WR_EX EX_AC WR_EX_RO EX_AC_RO WR_EX_AR EX_AC_AR"
    );
}

#[test]
fn remaining_capability_bits_round_trip() {
    let capabilities = Capabilities {
        replace_lost_reservation: true,
        persist_through_power_loss_active: true,
        ..Capabilities::default()
    };
    // The mask is ignored if TMV is zero.
    let decoded = Capabilities::decode(&[0, 8, 0x80, 0x01, 0xff, 0xff, 0, 0]);
    assert_eq!(decoded, Ok(capabilities));
    assert_eq!(capabilities.encode(), [0, 8, 0x80, 0x01, 0, 0, 0, 0]);
}

#[test]
fn type_mask_contains_the_collected_types() {
    for reservation_type in ReservationType::ALL {
        let mask: TypeMask = [reservation_type].into_iter().collect();
        assert_eq!(mask.types().collect::<Vec<_>>(), [reservation_type]);
    }
    assert_eq!(
        ReservationType::ALL.into_iter().collect::<TypeMask>(),
        TypeMask::ALL
    );
    assert_eq!(TypeMask::default().to_string(), "none");
}

/// READ FULL STATUS data: generation 4, a holder at target port 1, a registrant at all ports.
#[rustfmt::skip]
const FULL_STATUS: [u8; 104] = [
    0, 0, 0, 4, 0, 0, 0, 96,
    0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0x01, 0x05, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24,
    6, 0, 0, 0, 0x50, 0, 0xc5, 0, 5, 0xb3, 0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0x0d, 0xef, 0, 0, 0, 0, 0x02, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24,
    0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0xc9, 0xf3, 0xa5, 0x71, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn full_status_round_trips() {
    let status = FullStatus {
        generation: PrGeneration::new(4),
        descriptors: vec![
            FullStatusDescriptor {
                key: ReservationKey::new(0x12_3abc),
                all_tg_pt: false,
                holder: true,
                scope_type: ScopeType(0x05),
                relative_target_port: RelativeTargetPort::new(1),
                transport_id: Ok(TransportId::Sas {
                    sas_address: 0x5000_c500_05b3_2001,
                }),
            },
            FullStatusDescriptor {
                key: ReservationKey::new(0xdef),
                all_tg_pt: true,
                holder: false,
                scope_type: ScopeType(0),
                relative_target_port: RelativeTargetPort::new(0),
                transport_id: Ok(TransportId::FibreChannel {
                    n_port_name: 0x1000_0000_c9f3_a571,
                }),
            },
        ],
    };
    let decoded = FullStatus::decode(&FULL_STATUS).unwrap();
    assert_eq!(decoded.complete(), Some(status.clone()));
    assert_eq!(status.encode(), FULL_STATUS);
    assert_eq!(
        status.to_string(),
        "generation 0x4, 2 registrations; \
         key 0x123abc, sas,5000c50005b32001, target port 1, holder, \
         type Write Exclusive - Registrants Only; \
         key 0xdef, fcp,10000000c9f3a571, all target ports"
    );
}

#[test]
fn truncated_full_status_has_complete_descriptors() {
    for (allocation_length, complete) in [(8, 0), (31, 0), (55, 0), (56, 1), (80, 1), (103, 1)] {
        let decoded = FullStatus::decode(truncate(&FULL_STATUS, allocation_length)).unwrap();
        assert_eq!(decoded.value.descriptors.len(), complete);
        assert_eq!(decoded.missing, 104 - usize::from(allocation_length));
        assert!(decoded.to_string().ends_with("bytes truncated"));
    }
}

#[test]
fn malformed_transport_id_does_not_hide_others() {
    let mut bytes = FULL_STATUS;
    bytes[32] = 0x46; // reserved format of SAS
    let status = FullStatus::decode(&bytes).unwrap().value;
    let malformed = status.descriptors[0].transport_id.as_ref().unwrap_err();
    assert!(matches!(
        malformed.error(),
        TransportIdError::ReservedFormat { .. }
    ));
    assert_eq!(malformed.as_bytes(), &bytes[32..56]);
    assert!(
        malformed
            .to_string()
            .starts_with(r"malformed,F\x00\x00\x00P\x00")
    );
    assert!(status.descriptors[1].transport_id.is_ok());
    assert_eq!(status.encode(), bytes);
}

/// Older Linux targets send NULs before and after the separator, and part of the session
/// identifier.
#[test]
fn iscsi_port_of_older_linux_targets_is_readable() {
    let mut bytes = FULL_STATUS[..32].to_vec();
    bytes[7] = 24 + 48;
    bytes[31] = 48;
    bytes.extend(b"\x45\0\0\x2ciqn.1993-08.org.debian:01:abc\0,i,0x\0\0\0\0\x000002");
    let status = FullStatus::decode(&bytes).unwrap().value;
    let malformed = status.descriptors[0].transport_id.as_ref().unwrap_err();
    assert_eq!(
        malformed.to_string(),
        r"malformed,E\x00\x00,iqn.1993-08.org.debian:01:abc\x00,i,0x\x00\x00\x00\x00\x000002"
    );
}

#[test]
fn descriptor_beyond_the_list_is_an_error() {
    let error = Err(ParameterDataError::Descriptor { offset: 56 });
    // The second descriptor declares a TransportID of 25 bytes.
    let mut bytes = FULL_STATUS;
    bytes[79] = 25;
    assert_eq!(FullStatus::decode(&bytes), error);
    // The list holds the first descriptor and part of a header.
    let mut bytes = FULL_STATUS;
    bytes[7] = 60;
    assert_eq!(FullStatus::decode(&bytes), error);
}
