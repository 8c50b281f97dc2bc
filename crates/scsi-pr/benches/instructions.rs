// SPDX-License-Identifier: MIT OR Apache-2.0

//! Instruction counts of decoding and encoding commands, lists and sense data; see `counted`.

mod counted;

use std::hint::black_box;

use anyhow::Result;
use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, OutServiceAction, ParameterList, RegisterAndMove,
    RelativeTargetPort, ReservationKey, Sense, SenseKey, TransportId,
};

fn main() -> Result<()> {
    counted::run(&[
        ("CDB of IN", |count| {
            decode(count, &[0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0], |bytes| {
                Cdb::decode(bytes)
            });
        }),
        ("CDB of OUT", |count| {
            decode(count, &[0x5f, 6, 5, 0, 0, 0, 0, 0, 24, 0], |bytes| {
                Cdb::decode(bytes)
            });
        }),
        ("list of 24 bytes", |count| {
            let list = BasicParameterList {
                reservation_key: ReservationKey::new(1),
                service_action_reservation_key: ReservationKey::new(2),
                ..BasicParameterList::default()
            };
            decode(count, &list.encode(), |bytes| {
                ParameterList::decode(black_box(OutServiceAction::Register), bytes)
            });
        }),
        ("list with two TransportIDs", |count| {
            let list = BasicParameterList {
                spec_i_pt: Some(vec![sas(), iscsi()]),
                ..BasicParameterList::default()
            };
            decode(count, &list.encode(), |bytes| {
                ParameterList::decode(black_box(OutServiceAction::Register), bytes)
            });
        }),
        ("list of REGISTER AND MOVE", |count| {
            decode(count, &register_and_move().encode(), |bytes| {
                ParameterList::decode(black_box(OutServiceAction::RegisterAndMove), bytes)
            });
        }),
        ("TransportID, SAS", |count| {
            decode(count, &sas().encode(), TransportId::decode);
        }),
        ("TransportID, iSCSI", |count| {
            decode(count, &iscsi().encode(), TransportId::decode);
        }),
        ("sense, fixed, decoded", |count| {
            decode(count, &sense().to_fixed(), Sense::decode);
        }),
        ("sense, descriptors, decoded", |count| {
            decode(count, &sense().to_descriptor(), Sense::decode);
        }),
        ("sense, fixed, encoded", |count| {
            encode(count, &sense(), Sense::to_fixed);
        }),
        ("sense, descriptors, encoded", |count| {
            encode(count, &sense(), Sense::to_descriptor);
        }),
    ])
}

/// Decodes `bytes`, which the optimizer cannot see, `count` times.
fn decode<T, E>(count: usize, bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) {
    for _ in 0..count {
        assert!(black_box(decode(black_box(bytes))).is_ok());
    }
}

/// Encodes `value` `count` times.
fn encode<T, U>(count: usize, value: &T, encode: impl Fn(&T) -> U) {
    for _ in 0..count {
        black_box(encode(black_box(value)));
    }
}

#[expect(clippy::unwrap_used, reason = "the text is valid")]
fn sas() -> TransportId {
    "sas,5000c50005b32001".parse().unwrap()
}

#[expect(clippy::unwrap_used, reason = "the text is valid")]
fn iscsi() -> TransportId {
    "iqn.1993-08.org.debian:01:abcdef,i,0x123456789abc"
        .parse()
        .unwrap()
}

fn register_and_move() -> RegisterAndMove {
    RegisterAndMove {
        reservation_key: ReservationKey::new(1),
        service_action_reservation_key: ReservationKey::new(2),
        unregister: true,
        aptpl: false,
        relative_target_port: RelativeTargetPort::from(1),
        transport_id: sas(),
    }
}

fn sense() -> Sense {
    let code = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    Sense::new(SenseKey::IllegalRequest, code)
}
