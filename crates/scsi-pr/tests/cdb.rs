// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layouts of CDBs.

use scsi_pr::{
    Cdb, CdbError, InServiceAction, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
    ReservationType, Scope, ScopeType,
};

#[test]
fn read_keys_of_sg_persist_round_trips() {
    let bytes = [0x5e, 0x00, 0, 0, 0, 0, 0, 0x20, 0x00, 0];
    let cdb = Cdb::In(PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        allocation_length: 8192,
        control: 0,
    });
    assert_eq!(Cdb::decode(&bytes), Ok(cdb));
    assert_eq!(cdb.encode(), bytes);
    assert_eq!(
        cdb.to_string(),
        "PERSISTENT RESERVE IN READ KEYS, allocation length 8192"
    );
}

#[test]
fn reserve_padded_to_16_bytes_is_decoded() {
    let bytes = [0x5f, 0x01, 0x06, 0, 0, 0, 0, 0, 24, 4, 0, 0, 0, 0, 0, 0];
    let cdb = Cdb::Out(PersistentReserveOut {
        service_action: OutServiceAction::Reserve,
        scope_type: ScopeType::new(
            Scope::LogicalUnit,
            ReservationType::ExclusiveAccessRegistrantsOnly,
        ),
        parameter_list_length: 24,
        control: 4,
    });
    assert_eq!(Cdb::decode(&bytes), Ok(cdb));
    assert_eq!(cdb.encode(), bytes[..10]);
}

#[test]
fn reserved_fields_are_ignored() {
    let zero = Cdb::decode(&[0x5e, 0x03, 0, 0, 0, 0, 0, 0, 9, 0]);
    let non_zero = Cdb::decode(&[0x5e, 0xe3, 1, 2, 3, 4, 5, 0, 9, 0]);
    assert_eq!(non_zero, zero);
}

#[test]
fn ignored_type_is_not_displayed() {
    let cdb = Cdb::decode(&[0x5f, 0x00, 0x05, 0, 0, 0, 0, 0, 24, 0]).unwrap();
    assert_eq!(
        cdb.to_string(),
        "PERSISTENT RESERVE OUT REGISTER, parameter list length 24"
    );
}

#[test]
fn invalid_cdb_is_rejected() {
    for (bytes, error) in [
        (&[][..], CdbError::TooShort { length: 0 }),
        (&[0x5e; 9], CdbError::TooShort { length: 9 }),
        (&[0x12; 10], CdbError::Opcode(0x12)),
        (
            &[0x5e, 4, 0, 0, 0, 0, 0, 0, 0, 0],
            CdbError::ServiceAction {
                opcode: 0x5e,
                code: 4,
            },
        ),
        (
            &[0x5f, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
            CdbError::ServiceAction {
                opcode: 0x5f,
                code: 31,
            },
        ),
    ] {
        assert_eq!(Cdb::decode(bytes), Err(error));
    }
}
