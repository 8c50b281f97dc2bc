//! What is true of any bytes: nothing panics, nothing goes wrong by halves.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

use proptest::collection::vec;
use proptest::prelude::*;
use scsi_pr::{Cdb, OutServiceAction, ParameterList, Status, TransportId};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response};

/// Two initiator ports; the first one also at a second target port.
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

/// A CDB: any bytes, or one of the two commands with any fields.
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

/// Parameters: any bytes, or those of a list with keys that may be registered.
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

/// Whether these bytes are a command that this unit knows, with a list of its form.
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

fn is_well_formed(answer: &Response) -> bool {
    match answer.status {
        Status::GOOD => answer.sense.is_none(),
        Status::RESERVATION_CONFLICT => answer.sense.is_none() && answer.data.is_empty(),
        Status::CHECK_CONDITION => answer.sense.is_some() && answer.data.is_empty(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_command_is_done_or_changes_nothing(
        commands in vec((0..3_usize, cdb(), parameters()), 0..60)
    ) {
        let mut unit = unit();
        let ids = ids(&unit);
        for (sender, cdb, parameters) in commands {
            // A waiting attention is delivered first, so that the answer is about the command.
            while !unit.unit_attentions(ids[sender]).is_empty() {
                unit.access(ids[sender], Access::TestUnitReady);
            }
            let before = unit.clone();
            let answer = unit.execute(ids[sender], &cdb, &parameters);
            prop_assert!(is_well_formed(&answer), "{answer:?}");
            let good = answer.status == Status::GOOD;
            prop_assert!(good || unit == before);
            prop_assert!(!good || is_command(&cdb, &parameters));
            prop_assert!(unit.reservation().is_none() || ids.iter().any(|id| unit.is_holder(*id)));
        }
    }

    #[test]
    fn a_unit_does_the_same_with_the_same(
        commands in vec((0..3_usize, cdb(), parameters()), 0..30)
    ) {
        let (mut one, mut other) = (unit(), unit());
        for (sender, cdb, parameters) in commands {
            let id = ids(&one)[sender];
            let answer = one.execute(id, &cdb, &parameters);
            prop_assert_eq!(answer, other.execute(id, &cdb, &parameters));
        }
        prop_assert_eq!(one, other);
    }
}
