// SPDX-License-Identifier: MIT OR Apache-2.0

//! Properties for arbitrary bytes: no panic, and no partial change by a failed command.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

use proptest::collection::vec;
use proptest::prelude::*;
use scsi_pr::{Cdb, OutServiceAction, ParameterList, Status, TransportId};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response};

/// Creates a unit with two initiator ports, the first of them at two target ports.
fn unit() -> LogicalUnit {
    let nexus = |sas_address, port: u16| Nexus {
        initiator: TransportId::Sas { sas_address },
        target_port: port.into(),
    };
    LogicalUnit::new(vec![nexus(1, 1), nexus(2, 2), nexus(1, 2)]).unwrap()
}

fn ids(unit: &LogicalUnit) -> Vec<NexusId> {
    unit.nexuses().map(|(id, _)| id).collect()
}

/// Generates a CDB: arbitrary bytes, or a PERSISTENT RESERVE command with arbitrary fields.
fn cdb() -> impl Strategy<Value = Vec<u8>> {
    let likely = (
        0x5e..=0x5f_u8,
        0..10_u8,
        0..10_u8,
        any::<u8>(),
        any::<bool>(),
    )
        .prop_map(|(opcode, action, kind, length, whole)| {
            let length = if whole { 24 } else { length };
            vec![opcode, action, kind, 0, 0, 0, 0, 0, length, 0]
        });
    prop_oneof![1 => vec(any::<u8>(), 0..20), 8 => likely]
}

/// Generates parameters: arbitrary bytes, or a list with keys that other commands register.
fn parameters() -> impl Strategy<Value = Vec<u8>> {
    let likely = (0..3_u8, 0..3_u8, 0..16_u8, vec(0..8_u8, 0..56)).prop_map(
        |(key, action_key, flags, tail)| {
            let mut list = vec![0; 24];
            (list[7], list[15], list[20]) = (key, action_key, flags);
            list.extend(tail);
            list
        },
    );
    prop_oneof![1 => vec(any::<u8>(), 0..80), 8 => likely]
}

/// Returns whether the bytes are a supported command with a well-formed parameter list.
fn is_command(cdb: &[u8], parameters: &[u8]) -> bool {
    match Cdb::decode(cdb) {
        Ok(Cdb::In(_)) => true,
        Ok(Cdb::Out(command)) => {
            let list = usize::try_from(command.parameter_list_length)
                .ok()
                .and_then(|length| parameters.get(..length));
            command.service_action != OutServiceAction::ReplaceLostReservation
                && list
                    .is_some_and(|list| ParameterList::decode(command.service_action, list).is_ok())
        }
        Err(_) => false,
    }
}

fn is_well_formed(response: &Response) -> bool {
    match response.status {
        Status::GOOD => response.sense.is_none(),
        Status::RESERVATION_CONFLICT => response.sense.is_none() && response.data.is_empty(),
        Status::CHECK_CONDITION => response.sense.is_some() && response.data.is_empty(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn failed_command_changes_nothing(
        commands in vec((0..3_usize, cdb(), parameters()), 0..60)
    ) {
        let mut unit = unit();
        let ids = ids(&unit);
        for (sender, cdb, parameters) in commands {
            // Report pending unit attentions first, so that the response belongs to the command.
            while !unit.unit_attentions(ids[sender]).is_empty() {
                unit.access(ids[sender], Access::TestUnitReady);
            }
            let before = unit.clone();
            let response = unit.execute(ids[sender], &cdb, &parameters);
            prop_assert!(is_well_formed(&response), "{response:?}");
            let good = response.status == Status::GOOD;
            prop_assert!(good || unit == before);
            prop_assert!(!good || is_command(&cdb, &parameters));
            prop_assert!(unit.reservation().is_none() || ids.iter().any(|id| unit.is_holder(*id)));
        }
    }

    #[test]
    fn equal_units_give_equal_responses(
        commands in vec((0..3_usize, cdb(), parameters()), 0..30)
    ) {
        let (mut first, mut second) = (unit(), unit());
        for (sender, cdb, parameters) in commands {
            let id = ids(&first)[sender];
            let response = first.execute(id, &cdb, &parameters);
            prop_assert_eq!(response, second.execute(id, &cdb, &parameters));
        }
        prop_assert_eq!(first, second);
    }
}
