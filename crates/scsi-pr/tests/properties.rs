// SPDX-License-Identifier: MIT OR Apache-2.0

//! Properties of all values and all bytes: nothing panics, and values survive encoding and
//! decoding.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use scsi_pr::{
    AdditionalSense, AllowCommands, BasicParameterList, Capabilities, Cdb, FieldPointer,
    FullStatus, FullStatusDescriptor, InServiceAction, IscsiName, IscsiTransportId, Isid, Keys,
    OpaqueTransportId, OutServiceAction, ParameterList, PersistentReserveIn, PersistentReserveOut,
    RegisterAndMove, ReservationData, ReservationDescriptor, ReservationKey, ScopeType, Sense,
    SenseKey, TransportId, TransportIds, TypeMask, truncate,
};

fn cdb() -> impl Strategy<Value = Cdb> {
    let input = (
        proptest::sample::select(&InServiceAction::ALL),
        any::<u16>(),
        any::<u8>(),
    );
    let output = (
        proptest::sample::select(&OutServiceAction::ALL),
        any::<u8>(),
        any::<u32>(),
        any::<u8>(),
    );
    prop_oneof![
        input.prop_map(|(service_action, allocation_length, control)| {
            Cdb::In(PersistentReserveIn {
                service_action,
                allocation_length,
                control,
            })
        }),
        output.prop_map(
            |(service_action, scope_type, parameter_list_length, control)| {
                Cdb::Out(PersistentReserveOut {
                    service_action,
                    scope_type: ScopeType(scope_type),
                    parameter_list_length,
                    control,
                })
            }
        ),
    ]
}

fn key() -> impl Strategy<Value = ReservationKey> {
    any::<u64>().prop_map(ReservationKey::new)
}

fn iscsi() -> impl Strategy<Value = IscsiTransportId> {
    let name = prop_oneof![
        "(iqn|eui|naa)\\.[a-z0-9.:-]{0,219}",
        "[a-zA-Z0-9\u{e4}.:-]{1,111}",
    ];
    let isid = option::of(any::<u64>().prop_map(|value| Isid::new(value >> 16).expect("48 bits")));
    (name, isid).prop_map(|(name, isid)| IscsiTransportId {
        name: IscsiName::new(&name).expect("a valid name"),
        isid,
    })
}

fn transport_id() -> impl Strategy<Value = TransportId> {
    let opaque = any::<[u8; 24]>()
        .prop_filter_map("has a layout", OpaqueTransportId::new)
        .prop_map(TransportId::Opaque);
    prop_oneof![
        any::<u64>().prop_map(|n_port_name| TransportId::FibreChannel { n_port_name }),
        (any::<u16>(), any::<u16>()).prop_map(|(scsi_address, port)| TransportId::Spi {
            scsi_address,
            relative_target_port: port.into(),
        }),
        any::<u64>().prop_map(|eui64| TransportId::Sbp { eui64 }),
        any::<u128>().prop_map(|initiator_port| TransportId::Srp { initiator_port }),
        iscsi().prop_map(TransportId::Iscsi),
        any::<u64>().prop_map(|sas_address| TransportId::Sas { sas_address }),
        any::<u16>().prop_map(|routing_id| TransportId::Sop { routing_id }),
        opaque,
    ]
}

fn basic() -> impl Strategy<Value = BasicParameterList> {
    let ids = option::of(vec(transport_id(), 0..5));
    (key(), key(), ids, any::<bool>(), any::<bool>()).prop_map(
        |(reservation_key, service_action_reservation_key, spec_i_pt, all_tg_pt, aptpl)| {
            BasicParameterList {
                reservation_key,
                service_action_reservation_key,
                spec_i_pt,
                all_tg_pt,
                aptpl,
            }
        },
    )
}

fn register_and_move() -> impl Strategy<Value = RegisterAndMove> {
    (
        key(),
        key(),
        any::<bool>(),
        any::<bool>(),
        any::<u16>(),
        transport_id(),
    )
        .prop_map(
            |(
                reservation_key,
                service_action_reservation_key,
                unregister,
                aptpl,
                port,
                transport_id,
            )| {
                RegisterAndMove {
                    reservation_key,
                    service_action_reservation_key,
                    unregister,
                    aptpl,
                    relative_target_port: port.into(),
                    transport_id,
                }
            },
        )
}

fn keys() -> impl Strategy<Value = Keys> {
    (any::<u32>(), vec(key(), 0..20)).prop_map(|(generation, keys)| Keys {
        generation: generation.into(),
        keys,
    })
}

fn reservation_data() -> impl Strategy<Value = ReservationData> {
    let reservation = (key(), any::<u8>()).prop_map(|(key, scope_type)| ReservationDescriptor {
        key,
        scope_type: ScopeType(scope_type),
    });
    (any::<u32>(), option::of(reservation)).prop_map(|(generation, reservation)| ReservationData {
        generation: generation.into(),
        reservation,
    })
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    (any::<[bool; 6]>(), 0..=7u8, option::of(any::<u16>())).prop_map(|(bits, allow, mask)| {
        Capabilities {
            replace_lost_reservation: bits[0],
            compatible_reservation_handling: bits[1],
            specify_initiator_ports: bits[2],
            all_target_ports: bits[3],
            persist_through_power_loss: bits[4],
            persist_through_power_loss_active: bits[5],
            allow_commands: AllowCommands::new(allow).expect("3 bits"),
            type_mask: mask.map(TypeMask::new),
        }
    })
}

fn full_status() -> impl Strategy<Value = FullStatus> {
    let descriptor = (
        key(),
        any::<bool>(),
        any::<bool>(),
        any::<u8>(),
        any::<u16>(),
        transport_id(),
    )
        .prop_map(|(key, all_tg_pt, holder, scope_type, port, transport_id)| {
            FullStatusDescriptor {
                key,
                all_tg_pt,
                holder,
                scope_type: ScopeType(scope_type),
                relative_target_port: port.into(),
                transport_id: Ok(transport_id),
            }
        });
    (any::<u32>(), vec(descriptor, 0..6)).prop_map(|(generation, descriptors)| FullStatus {
        generation: generation.into(),
        descriptors,
    })
}

fn sense() -> impl Strategy<Value = Sense> {
    let pointer = (any::<bool>(), any::<u16>(), option::of(0..8u8))
        .prop_map(|(in_cdb, byte, bit)| FieldPointer { in_cdb, byte, bit });
    let key = proptest::sample::select(&SenseKey::ALL);
    (
        key,
        any::<[u8; 2]>(),
        any::<bool>(),
        option::of(any::<u32>()),
        option::of(pointer),
    )
        .prop_map(|(key, [asc, ascq], deferred, information, pointer)| Sense {
            key,
            code: AdditionalSense { asc, ascq },
            deferred,
            information: information.map(u64::from),
            field_pointer: pointer.filter(|_| key == SenseKey::IllegalRequest),
        })
}

proptest! {
    #[test]
    fn commands_round_trip(cdb in cdb()) {
        prop_assert_eq!(Cdb::decode(&cdb.encode()), Ok(cdb));
    }

    #[test]
    fn keys_round_trip_as_text(key in key()) {
        prop_assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn transport_ids_round_trip(id in transport_id()) {
        let bytes = id.encode();
        prop_assert_eq!(bytes.len(), id.encoded_len());
        prop_assert!(bytes.len() >= 24 && bytes.len() % 4 == 0);
        prop_assert_eq!(id.to_string().parse(), Ok(id.clone()));
        prop_assert_eq!(TransportId::decode(&bytes), Ok(id));
    }

    #[test]
    fn basic_lists_round_trip(list in basic()) {
        let list = ParameterList::Basic(list);
        let decoded = ParameterList::decode(OutServiceAction::Register, &list.encode());
        prop_assert_eq!(decoded, Ok(list));
    }

    #[test]
    fn move_lists_round_trip(list in register_and_move()) {
        let list = ParameterList::RegisterAndMove(list);
        let decoded = ParameterList::decode(OutServiceAction::RegisterAndMove, &list.encode());
        prop_assert_eq!(decoded, Ok(list));
    }

    #[test]
    fn key_data_round_trip(data in keys()) {
        let decoded = Keys::decode(&data.encode()).unwrap();
        prop_assert_eq!(decoded.complete(), Some(data));
    }

    #[test]
    fn reservation_data_round_trip(data in reservation_data()) {
        prop_assert_eq!(ReservationData::decode(&data.encode()), Ok(data));
    }

    #[test]
    fn capabilities_round_trip(data in capabilities()) {
        prop_assert_eq!(Capabilities::decode(&data.encode()), Ok(data));
    }

    #[test]
    fn full_status_round_trips(data in full_status()) {
        let decoded = FullStatus::decode(&data.encode()).unwrap();
        prop_assert_eq!(decoded.complete(), Some(data));
    }

    #[test]
    fn truncated_full_status_is_a_prefix(data in full_status(), length: u16) {
        let whole = data.encode();
        let given = truncate(&whole, length);
        prop_assume!(given.len() >= 8);
        let decoded = FullStatus::decode(given).unwrap();
        prop_assert_eq!(decoded.missing, whole.len() - given.len());
        prop_assert!(data.descriptors.starts_with(&decoded.value.descriptors));
    }

    #[test]
    fn long_information_round_trips_in_descriptors(sense in sense(), information: u64) {
        let sense = Sense { information: Some(information), ..sense };
        prop_assert_eq!(Sense::decode(&sense.to_descriptor()), Ok(sense));
    }

    #[test]
    fn sense_round_trips(sense in sense()) {
        prop_assert_eq!(Sense::decode(&sense.to_fixed()), Ok(sense));
        prop_assert_eq!(Sense::decode(&sense.to_descriptor()), Ok(sense));
    }
}

/// Generates random bytes, half of them after a valid prefix so that decoding fails late.
fn bytes(prefixes: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let prefix = proptest::sample::select(prefixes);
    prop_oneof![
        vec(any::<u8>(), 0..200),
        (prefix, vec(any::<u8>(), 0..200)).prop_map(|(prefix, rest)| [prefix, &rest].concat()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_as_a_command(bytes in bytes(&[&[0x5e], &[0x5f]])) {
        if let Ok(cdb) = Cdb::decode(&bytes) {
            let _ = cdb.to_string();
            prop_assert_eq!(Cdb::decode(&cdb.encode()), Ok(cdb));
        }
    }

    #[test]
    fn any_bytes_as_transport_ids(bytes in bytes(&[b"\x45\0\0\x14x,i,0x", &[6]])) {
        let mut read = 0;
        for id in TransportIds::new(&bytes) {
            match id {
                Ok(id) => {
                    let _ = id.to_string();
                    prop_assert_eq!(TransportId::decode(&id.encode()), Ok(id));
                    read += 24;
                }
                Err(error) => prop_assert!(error.offset >= read && error.offset < bytes.len()),
            }
        }
    }

    #[test]
    fn any_bytes_as_parameter_list(
        action in proptest::sample::select(&OutServiceAction::ALL),
        bytes in bytes(&[
            &[0; 24],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 24],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 24],
        ]),
    ) {
        match ParameterList::decode(action, &bytes) {
            Ok(list) => {
                let _ = list.to_string();
                prop_assert_eq!(ParameterList::decode(action, &list.encode()), Ok(list));
            }
            Err(error) => prop_assert!(error.additional_sense().name().is_some()),
        }
    }

    #[test]
    fn any_bytes_as_keys(bytes in bytes(&[&[0, 0, 0, 0, 0, 0, 0, 64]])) {
        if let Ok(decoded) = Keys::decode(&bytes) {
            let _ = decoded.to_string();
            let again = Keys::decode(&decoded.value.encode()).unwrap();
            prop_assert_eq!(again.complete(), Some(decoded.value));
        }
    }

    #[test]
    fn any_bytes_as_reservation(bytes in bytes(&[&[0, 0, 0, 0, 0, 0, 0, 16]])) {
        if let Ok(data) = ReservationData::decode(&bytes) {
            let _ = data.to_string();
            prop_assert_eq!(ReservationData::decode(&data.encode()), Ok(data));
        }
    }

    #[test]
    fn any_bytes_as_capabilities(bytes in bytes(&[&[0, 8]])) {
        if let Ok(data) = Capabilities::decode(&bytes) {
            let _ = data.to_string();
            prop_assert_eq!(Capabilities::decode(&data.encode()), Ok(data));
        }
    }

    #[test]
    fn any_bytes_as_full_status(bytes in bytes(&[
        &[0, 0, 0, 0, 0, 0, 0, 96],
        &[
            0, 0, 0, 0, 0, 0, 0, 48,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24,
        ],
    ])) {
        if let Ok(decoded) = FullStatus::decode(&bytes) {
            let _ = decoded.to_string();
            let again = FullStatus::decode(&decoded.value.encode()).unwrap();
            prop_assert_eq!(again.complete(), Some(decoded.value));
        }
    }

    #[test]
    fn any_bytes_as_sense(bytes in bytes(&[&[0x70], &[0x71], &[0x72], &[0x73]])) {
        if let Ok(sense) = Sense::decode(&bytes) {
            let _ = sense.to_string();
            let fixed = Sense::decode(&sense.to_fixed()).unwrap();
            let information = sense.information.filter(|value| u32::try_from(*value).is_ok());
            prop_assert_eq!(fixed, Sense { information, ..sense });
        }
    }

    #[test]
    fn any_text_as_transport_id_or_key(text: String) {
        if let Ok(id) = text.parse::<TransportId>() {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Ok(key) = text.parse::<ReservationKey>() {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
