// SPDX-License-Identifier: MIT OR Apache-2.0

//! Arbitrary commands in arbitrary order to a soft LUN: each is executed completely or not at all,
//! and never leads to an invalid state.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, Keys, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, PrGeneration, RegisterAndMove, ScopeType, Status, TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response, SupportedFeatures};

use fuzz::input::Input;
use fuzz::invariants;

fuzz::target!(run);

/// Maximum number of commands; more reach no further states.
const MAX_COMMANDS: usize = 64;

/// TransportIDs that commands can name. The fifth is an iSCSI device, which is not a port, and the
/// last has no nexus.
const INITIATORS: [&str; 6] = [
    "sas,0000000000000001",
    "sas,0000000000000002",
    "iqn.2024-01.x:a,i,0x000000000001",
    "iqn.2024-01.x:a,i,0x000000000002",
    "iqn.2024-01.x:a",
    "sas,0000000000000003",
];

/// The nexuses: an index of [`INITIATORS`], and a target port.
const NEXUSES: [(usize, u16); 5] = [(0, 1), (1, 2), (0, 2), (2, 1), (3, 2)];

/// Input: supported features, then commands.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut unit = unit(input.byte());
    for _ in 0..MAX_COMMANDS {
        if input.is_empty() {
            break;
        }
        let sender = unit
            .nexuses()
            .map(|(id, _)| id)
            .nth(input.below(5))
            .unwrap();
        step(&mut unit, sender, &mut input);
        invariants::check(&unit);
    }
    let mut other = self::unit(bytes.first().copied().unwrap_or_default());
    other.restore(&unit.snapshot()).unwrap();
    assert!(other == unit);
}

fn initiator(index: usize) -> TransportId {
    INITIATORS[index].parse().unwrap()
}

fn unit(supported: u8) -> LogicalUnit {
    let nexuses = NEXUSES.map(|(index, port)| Nexus {
        initiator: initiator(index),
        target_port: port.into(),
    });
    let is_supported = |bit: u8| supported >> bit & 1 == 0;
    let supported = SupportedFeatures {
        persist_through_power_loss: is_supported(0),
        specify_initiator_ports: is_supported(1),
        all_target_ports: is_supported(2),
        ..SupportedFeatures::default()
    };
    LogicalUnit::new(nexuses.to_vec())
        .unwrap()
        .with_features(supported)
}

fn step(unit: &mut LogicalUnit, sender: NexusId, input: &mut Input<'_>) {
    match input.below(8) {
        0 => access(unit, sender, input),
        1 => {
            unit.lose_power();
            assert_eq!(unit.generation(), PrGeneration::new(0));
            assert!(unit.aptpl() || unit.registrations().is_empty());
        }
        2 => {
            let cdb = input.bytes();
            execute(unit, sender, cdb, input.bytes());
        }
        3 => {
            let action = InServiceAction::ALL[input.below(4)];
            let command = PersistentReserveIn {
                service_action: action,
                allocation_length: input.word(),
                control: 0,
            };
            execute(unit, sender, &command.encode(), &[]);
        }
        _ => {
            let (cdb, parameter_list) = reserve_out(input);
            execute(unit, sender, &cdb, &parameter_list);
        }
    }
}

/// Creates a well-formed PERSISTENT RESERVE OUT with keys from 0 to 3.
fn reserve_out(input: &mut Input<'_>) -> ([u8; 10], Vec<u8>) {
    let action = OutServiceAction::ALL[input.below(9)];
    let scope_type = ScopeType(input.byte() % 16);
    let (keys, flags) = (input.byte(), input.byte());
    let (key, new) = (u64::from(keys & 3), u64::from(keys >> 2 & 3));
    let parameter_list = if action == OutServiceAction::RegisterAndMove {
        let parameter_list = RegisterAndMove {
            reservation_key: key.into(),
            service_action_reservation_key: new.into(),
            unregister: flags & 2 != 0,
            aptpl: flags & 1 != 0,
            relative_target_port: u16::from(flags >> 2 & 3).into(),
            transport_id: initiator(input.below(6)),
        };
        parameter_list.encode()
    } else {
        let parameter_list = BasicParameterList {
            reservation_key: key.into(),
            service_action_reservation_key: new.into(),
            spec_i_pt: (flags & 8 != 0).then(|| {
                let count = flags >> 4;
                (0..count).map(|_| initiator(input.below(6))).collect()
            }),
            all_tg_pt: flags & 4 != 0,
            aptpl: flags & 1 != 0,
        };
        parameter_list.encode()
    };
    let command = PersistentReserveOut {
        service_action: action,
        scope_type,
        parameter_list_length: u32::try_from(parameter_list.len()).unwrap(),
        control: 0,
    };
    (command.encode(), parameter_list)
}

fn access(unit: &mut LogicalUnit, sender: NexusId, input: &mut Input<'_>) {
    let access = [Access::TestUnitReady, Access::Read, Access::Write][input.below(3)];
    let before = unit.clone();
    let response = unit.access(sender, access);
    if !is_attention(&before, sender, &response, unit) {
        let is_allowed = match access {
            Access::Read => before.can_read(sender),
            Access::Write => before.can_write(sender),
            Access::TestUnitReady => true,
        };
        assert_eq!(response.status == Status::GOOD, is_allowed);
        assert!(*unit == before);
    }
}

/// Returns whether the answer is a unit attention; checks that nothing else has happened in this
/// case.
fn is_attention(
    before: &LogicalUnit,
    sender: NexusId,
    response: &Response,
    after: &LogicalUnit,
) -> bool {
    let Some(first) = before.unit_attentions(sender).first() else {
        return false;
    };
    assert_eq!(response.sense.unwrap().code, first.additional_sense());
    let mut expected = before.snapshot();
    let attentions = &mut expected.unit_attentions;
    let index = attentions.iter().position(|(nexus, _)| *nexus == sender);
    attentions.remove(index.unwrap());
    assert!(after.snapshot() == expected);
    true
}

fn execute(unit: &mut LogicalUnit, sender: NexusId, cdb: &[u8], parameter_list: &[u8]) {
    let before = unit.clone();
    let response = unit.execute(sender, cdb, parameter_list);
    if is_attention(&before, sender, &response, unit) {
        return;
    }
    if response.status != Status::GOOD {
        assert!(*unit == before);
        assert!(response.data.is_empty());
        assert_eq!(
            response.sense.is_some(),
            response.status == Status::CHECK_CONDITION
        );
        return;
    }
    match Cdb::decode(cdb).unwrap() {
        Cdb::In(command) => {
            assert!(*unit == before);
            assert!(response.data.len() <= command.allocation_length.into());
            if command.service_action == InServiceAction::ReadKeys && response.data.len() >= 8 {
                let read = Keys::decode(&response.data).unwrap().value;
                let keys: Vec<_> = unit.registrations().iter().map(|one| one.key).collect();
                assert!(keys.starts_with(&read.keys));
                assert_eq!(read.generation, unit.generation());
            }
        }
        Cdb::Out(command) => check_out(&before, sender, command.service_action, unit),
    }
}

/// Checks the effects of a successful PERSISTENT RESERVE OUT.
fn check_out(before: &LogicalUnit, sender: NexusId, action: OutServiceAction, after: &LogicalUnit) {
    use OutServiceAction::{Clear, Register, RegisterAndIgnoreExistingKey, Release, Reserve};
    let is_counted = after.generation() != before.generation();
    assert!(!is_counted || after.generation() == before.generation().next());
    assert!(before.registrations() == after.registrations() || is_counted);
    assert!(after.unit_attentions(sender).is_empty());
    // SPC-4, 5.12: an unregistered initiator can only register.
    if !matches!(action, Register | RegisterAndIgnoreExistingKey) {
        assert!(before.key(sender).is_some());
    }
    match action {
        Reserve => assert!(after.is_holder(sender) && !is_counted),
        Release => {
            assert!(!is_counted);
            match before.is_holder(sender) {
                true => assert_eq!(after.reservation(), None),
                false => assert_eq!(after.reservation(), before.reservation()),
            }
        }
        Clear => assert!(after.registrations().is_empty() && after.reservation().is_none()),
        _ => {}
    }
}
