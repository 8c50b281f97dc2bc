// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layouts of parameter lists, and the sense data for invalid ones.

use scsi_pr::{
    AdditionalSense, BasicParameterList, OutServiceAction, ParameterList, ParameterListError,
    RegisterAndMove, RelativeTargetPort, ReservationKey, TransportId, TransportIdError,
};

/// Returns a list with key 0x123abc at 0, service action key 0xdef at 8, and `rest` at 16.
fn list(rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        0, 0, 0, 0, 0, 0x12, 0x3a, 0xbc, 0, 0, 0, 0, 0, 0, 0x0d, 0xef,
    ];
    bytes.extend(rest);
    bytes
}

fn sas() -> TransportId {
    TransportId::Sas {
        sas_address: 0x5000_c500_05b3_2001,
    }
}

fn basic() -> BasicParameterList {
    BasicParameterList {
        reservation_key: ReservationKey::new(0x12_3abc),
        service_action_reservation_key: ReservationKey::new(0xdef),
        ..BasicParameterList::default()
    }
}

#[test]
fn basic_list_without_flags_round_trips() {
    let bytes = list(&[0; 8]);
    let decoded = ParameterList::decode(OutServiceAction::Preempt, &bytes).unwrap();
    assert_eq!(decoded, basic().into());
    assert_eq!(decoded.encode(), bytes);
    assert_eq!(
        decoded.to_string(),
        "key 0x123abc, service action key 0xdef"
    );
}

#[test]
fn basic_list_with_flags_round_trips() {
    // Byte 20: ALL_TG_PT is bit 2, APTPL is bit 0.
    let bytes = list(&[0, 0, 0, 0, 0x05, 0, 0, 0]);
    let expected = BasicParameterList {
        all_tg_pt: true,
        aptpl: true,
        ..basic()
    };
    let decoded = BasicParameterList::decode(OutServiceAction::Register, &bytes);
    assert_eq!(decoded, Ok(expected.clone()));
    assert_eq!(expected.encode(), bytes);
    assert_eq!(
        expected.to_string(),
        "key 0x123abc, service action key 0xdef, ALL_TG_PT, APTPL"
    );
}

#[test]
fn obsolete_and_reserved_fields_are_ignored() {
    // SPC-2: scope-specific address at 16, extent length at 22.
    let bytes = list(&[0xaa, 0xaa, 0xaa, 0xaa, 0xf2, 0xff, 0xaa, 0xaa]);
    let decoded = BasicParameterList::decode(OutServiceAction::Reserve, &bytes).unwrap();
    assert_eq!(decoded, basic());
    assert_eq!(decoded.encode(), list(&[0; 8]));
}

#[test]
fn list_with_spec_i_pt_round_trips() {
    // Byte 20: SPEC_I_PT is bit 3. Byte 24: length of the TransportIDs.
    let mut bytes = list(&[0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 0, 48]);
    bytes.extend([sas().encode(), sas().encode()].concat());
    let expected = BasicParameterList {
        spec_i_pt: Some(vec![sas(), sas()]),
        ..basic()
    };
    let decoded = BasicParameterList::decode(OutServiceAction::Register, &bytes);
    assert_eq!(decoded, Ok(expected.clone()));
    assert_eq!(expected.encode(), bytes);
}

#[test]
fn register_and_move_list_round_trips() {
    // Byte 17: UNREG is bit 1, APTPL is bit 0. Byte 18: target port. Byte 20: length of the ID.
    let mut bytes = list(&[0, 0x03, 0, 2, 0, 0, 0, 24]);
    bytes.extend(sas().encode());
    let expected = RegisterAndMove {
        reservation_key: ReservationKey::new(0x12_3abc),
        service_action_reservation_key: ReservationKey::new(0xdef),
        unregister: true,
        aptpl: true,
        relative_target_port: RelativeTargetPort::new(2),
        transport_id: sas(),
    };
    let decoded = ParameterList::decode(OutServiceAction::RegisterAndMove, &bytes);
    assert_eq!(decoded, Ok(expected.clone().into()));
    assert_eq!(expected.encode(), bytes);
    assert_eq!(
        expected.to_string(),
        "key 0x123abc, service action key 0xdef, UNREG, APTPL, \
         to sas,5000c50005b32001 at target port 2"
    );
}

/// Decodes an invalid list and returns the error.
fn decode_error(action: OutServiceAction, bytes: &[u8]) -> (ParameterListError, AdditionalSense) {
    let error = ParameterList::decode(action, bytes).expect_err("the list should be invalid");
    (error, error.additional_sense())
}

#[test]
fn wrong_length_is_a_length_error() {
    for bytes in [vec![], list(&[0; 7]), list(&[0; 9])] {
        let length = bytes.len();
        assert_eq!(
            decode_error(OutServiceAction::Clear, &bytes),
            (
                ParameterListError::Length { length },
                AdditionalSense::PARAMETER_LIST_LENGTH_ERROR
            )
        );
    }
}

#[test]
fn spec_i_pt_without_register_is_rejected() {
    let bytes = list(&[0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 0, 0]);
    for action in OutServiceAction::ALL {
        if matches!(
            action,
            OutServiceAction::Register | OutServiceAction::RegisterAndMove
        ) {
            continue;
        }
        assert_eq!(
            decode_error(action, &bytes),
            (
                ParameterListError::SpecIPt(action),
                AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST
            )
        );
    }
}

#[test]
fn invalid_transport_ids_are_an_invalid_field() {
    let header = [0, 0, 0, 0, 0x08, 0, 0, 0];
    let with = |length: u32, ids: &[u8]| list(&[&header, &length.to_be_bytes()[..], ids].concat());
    for bytes in [
        list(&header),                   // no length
        with(u32::MAX, &[]),             // far beyond the end
        with(24, &sas().encode()[..20]), // beyond the end
        with(20, &sas().encode()),       // ends within a TransportID
        with(24, &[0x46; 24]),           // reserved format
    ] {
        let (error, sense) = decode_error(OutServiceAction::Register, &bytes);
        assert_eq!(
            sense,
            AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST,
            "{error}"
        );
    }
}

#[test]
fn move_without_exactly_one_id_is_rejected() {
    let with = |length: u8, ids: &[u8]| list(&[&[0, 0, 0, 0, 0, 0, 0, length][..], ids].concat());
    let action = OutServiceAction::RegisterAndMove;
    let twice = [sas().encode(), sas().encode()].concat();
    let invalid = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    for (bytes, error) in [
        (
            with(0, &[]),
            TransportIdError::TooShort {
                needed: 24,
                given: 0,
            }
            .into(),
        ),
        (
            with(48, &twice),
            TransportIdError::TooLong {
                needed: 24,
                given: 48,
            }
            .into(),
        ),
        (
            with(48, &sas().encode()),
            ParameterListError::TransportIdLength {
                declared: 48,
                given: 24,
            },
        ),
    ] {
        assert_eq!(decode_error(action, &bytes), (error, invalid));
    }
}
