// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of retries and of the choice of the allocation length.

use super::*;

const READ_KEYS: Cdb = Cdb::In(PersistentReserveIn {
    service_action: InServiceAction::ReadKeys,
    allocation_length: 8,
    control: 0,
});
const CLEAR: Cdb = Cdb::Out(PersistentReserveOut {
    service_action: OutServiceAction::Clear,
    scope_type: ScopeType(0),
    parameter_list_length: 24,
    control: 0,
});

#[test]
fn allocation_grows_to_protocol_limit() {
    for (used, needed, expected) in [
        (1024, 1032, Some(1032)),
        (1024, 100_000, Some(8192)),
        (8192, 100_000, None),
        (1024, 1000, None),
    ] {
        assert_eq!(next_allocation(used, needed), expected, "{needed}");
    }
}

#[test]
fn query_retries_after_any_unit_attention() {
    for (asc, ascq) in [(0x29, 0), (0x2a, 3), (0x2a, 5), (0x2f, 0), (0x80, 1)] {
        let rejection = Rejection::for_test(READ_KEYS, 2, Some((6, asc, ascq)));
        assert_eq!(retry(&rejection, Direction::In), Retry::Immediately);
    }
}

#[test]
fn change_retries_after_unrelated_unit_attention() {
    for (asc, ascq, expected) in [
        (0x29, 0x00, Retry::Immediately),
        (0x29, 0x07, Retry::Immediately),
        (0x2a, 0x06, Retry::Immediately),
        (0x2a, 0x09, Retry::Immediately),
        (0x2a, 0x00, Retry::Never),
        (0x2a, 0x03, Retry::Never),
        (0x2a, 0x04, Retry::Never),
        (0x2a, 0x05, Retry::Never),
        (0x28, 0x00, Retry::Never),
        (0x2f, 0x00, Retry::Never),
        (0x3f, 0x01, Retry::Never),
        (0x3f, 0x03, Retry::Never),
        (0x3f, 0x05, Retry::Never),
        (0x3f, 0x0e, Retry::Never),
        (0x80, 0x01, Retry::Never),
    ] {
        // The same applies to the queries that precede a change.
        for command in [READ_KEYS, CLEAR] {
            let rejection = Rejection::for_test(command, 2, Some((6, asc, ascq)));
            let found = retry(&rejection, Direction::Out);
            assert_eq!(found, expected, "{asc:02x}/{ascq:02x}");
        }
    }
}

#[test]
fn only_query_retries_after_busy() {
    for (status, expected) in [
        (0x08, Retry::Delayed),
        (0x28, Retry::Delayed),
        (0x18, Retry::Never),
        (0x40, Retry::Never),
    ] {
        for intent in [Direction::In, Direction::Out] {
            let query = Rejection::for_test(READ_KEYS, status, None);
            assert_eq!(retry(&query, intent), expected, "{status:#x}");
        }
        let change = Rejection::for_test(CLEAR, status, None);
        assert_eq!(retry(&change, Direction::Out), Retry::Never, "{status:#x}");
    }
    let aborted = Rejection::for_test(READ_KEYS, 2, Some((0xb, 0, 6)));
    assert_eq!(retry(&aborted, Direction::In), Retry::Never);
}

#[test]
fn warning_sense_is_success() {
    let response = |data: &[u8]| Response {
        status: Status::CHECK_CONDITION,
        sense: [0; 96],
        data: data.to_vec(),
    };
    for (command, key, data, expected) in [
        (CLEAR, 0, &[][..], true),
        (CLEAR, 1, &[], true),
        (READ_KEYS, 1, &[0; 8], true),
        (READ_KEYS, 1, &[], false),
        (CLEAR, 6, &[], false),
    ] {
        let rejection = Rejection::for_test(command, 2, Some((key, 0, 0)));
        let found = succeeded_with_warning(&rejection, &response(data));
        assert_eq!(found, expected, "{key} {data:?}");
    }
    let mut deferred = Rejection::for_test(CLEAR, 2, Some((1, 0, 0)));
    deferred.sense = deferred.sense.map(|sense| Sense {
        deferred: true,
        ..sense
    });
    assert!(!succeeded_with_warning(&deferred, &response(&[])));
}
