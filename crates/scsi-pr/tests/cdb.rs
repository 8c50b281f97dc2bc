//! CDBs, byte by byte.

use scsi_pr::{
    Cdb, CdbError, InServiceAction, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
    ReservationType, Scope, ScopeType,
};

#[test]
fn read_keys_as_sg_persist_sends_it() {
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
fn reserve_with_zero_padding_to_16_bytes() {
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
    let plain = Cdb::decode(&[0x5e, 0x03, 0, 0, 0, 0, 0, 0, 9, 0]);
    let noisy = Cdb::decode(&[0x5e, 0xe3, 1, 2, 3, 4, 5, 0, 9, 0]);
    assert_eq!(noisy, plain);
}

#[test]
fn the_type_is_left_out_where_it_is_ignored() {
    let cdb = Cdb::decode(&[0x5f, 0x00, 0x05, 0, 0, 0, 0, 0, 24, 0]).unwrap();
    assert_eq!(
        cdb.to_string(),
        "PERSISTENT RESERVE OUT REGISTER, parameter list length 24"
    );
}

#[test]
fn what_is_no_command_is_named() {
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
