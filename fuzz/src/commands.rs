//! Any commands in any order to a soft LUN: it does each as a whole or not at all, and is never in a state
//! that cannot be.

use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, Keys, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, PrGeneration, RegisterAndMove, ScopeType, Status, TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response, SupportedFeatures};

use crate::consistent;
use crate::input::Input;

/// More than this many commands lead nowhere else.
const MOST: usize = 64;

/// What can be named as an initiator port; the last two are a device, which is none, and a stranger.
const INITIATORS: [&str; 6] = [
    "sas,0000000000000001",
    "sas,0000000000000002",
    "iqn.2024-01.x:a,i,0x000000000001",
    "iqn.2024-01.x:a,i,0x000000000002",
    "iqn.2024-01.x:a",
    "sas,0000000000000003",
];

/// The nexuses: an initiator of [`INITIATORS`], and a target port.
const NEXUSES: [(usize, u16); 5] = [(0, 1), (1, 2), (0, 2), (2, 1), (3, 2)];

/// What is supported, then commands.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut unit = unit(input.byte());
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let sender = unit
            .nexuses()
            .map(|(id, _)| id)
            .nth(input.below(5))
            .unwrap();
        step(&mut unit, sender, &mut input);
        consistent::check(&unit);
    }
    let mut other = self::unit(bytes.first().copied().unwrap_or_default());
    other.restore(&unit.snapshot()).unwrap();
    assert!(other == unit);
}

fn initiator(place: usize) -> TransportId {
    INITIATORS[place].parse().unwrap()
}

fn unit(supported: u8) -> LogicalUnit {
    let nexuses = NEXUSES.map(|(place, port)| Nexus {
        initiator: initiator(place),
        target_port: port.into(),
    });
    let is_there = |bit: u8| supported >> bit & 1 == 0;
    let supported = SupportedFeatures {
        persist_through_power_loss: is_there(0),
        specify_initiator_ports: is_there(1),
        all_target_ports: is_there(2),
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
            let (cdb, list) = out(input);
            execute(unit, sender, &cdb, &list);
        }
    }
}

/// A well-formed PERSISTENT RESERVE OUT, with keys from zero to three.
fn out(input: &mut Input<'_>) -> ([u8; 10], Vec<u8>) {
    let action = OutServiceAction::ALL[input.below(9)];
    let scope_type = ScopeType(input.byte() % 16);
    let (keys, flags) = (input.byte(), input.byte());
    let (key, new) = (u64::from(keys & 3), u64::from(keys >> 2 & 3));
    let list = if action == OutServiceAction::RegisterAndMove {
        let list = RegisterAndMove {
            reservation_key: key.into(),
            service_action_reservation_key: new.into(),
            unregister: flags & 2 != 0,
            aptpl: flags & 1 != 0,
            relative_target_port: u16::from(flags >> 2 & 3).into(),
            transport_id: initiator(input.below(6)),
        };
        list.encode()
    } else {
        let list = BasicParameterList {
            reservation_key: key.into(),
            service_action_reservation_key: new.into(),
            spec_i_pt: (flags & 8 != 0).then(|| {
                let count = flags >> 4;
                (0..count).map(|_| initiator(input.below(6))).collect()
            }),
            all_tg_pt: flags & 4 != 0,
            aptpl: flags & 1 != 0,
        };
        list.encode()
    };
    let command = PersistentReserveOut {
        service_action: action,
        scope_type,
        parameter_list_length: u32::try_from(list.len()).unwrap(),
        control: 0,
    };
    (command.encode(), list)
}

fn access(unit: &mut LogicalUnit, sender: NexusId, input: &mut Input<'_>) {
    let access = [Access::TestUnitReady, Access::Read, Access::Write][input.below(3)];
    let before = unit.clone();
    let answer = unit.access(sender, access);
    if !is_attention(&before, sender, &answer, unit) {
        let is_allowed = match access {
            Access::Read => before.can_read(sender),
            Access::Write => before.can_write(sender),
            Access::TestUnitReady => true,
        };
        assert_eq!(answer.status == Status::GOOD, is_allowed);
        assert!(*unit == before);
    }
}

/// Whether it was a unit attention that was delivered; if so, nothing else has happened.
fn is_attention(
    before: &LogicalUnit,
    sender: NexusId,
    answer: &Response,
    after: &LogicalUnit,
) -> bool {
    let Some(first) = before.unit_attentions(sender).first() else {
        return false;
    };
    assert_eq!(answer.sense.unwrap().code, first.additional_sense());
    let mut expected = before.snapshot();
    let waiting = &mut expected.unit_attentions;
    let place = waiting.iter().position(|(nexus, _)| *nexus == sender);
    waiting.remove(place.unwrap());
    assert!(after.snapshot() == expected);
    true
}

fn execute(unit: &mut LogicalUnit, sender: NexusId, cdb: &[u8], list: &[u8]) {
    let before = unit.clone();
    let answer = unit.execute(sender, cdb, list);
    if is_attention(&before, sender, &answer, unit) {
        return;
    }
    if answer.status != Status::GOOD {
        assert!(*unit == before);
        assert!(answer.data.is_empty());
        assert_eq!(
            answer.sense.is_some(),
            answer.status == Status::CHECK_CONDITION
        );
        return;
    }
    match Cdb::decode(cdb).unwrap() {
        Cdb::In(command) => {
            assert!(*unit == before);
            assert!(answer.data.len() <= command.allocation_length.into());
            if command.service_action == InServiceAction::ReadKeys && answer.data.len() >= 8 {
                let read = Keys::decode(&answer.data).unwrap().value;
                let keys: Vec<_> = unit.registrations().iter().map(|one| one.key).collect();
                assert!(keys.starts_with(&read.keys));
                assert_eq!(read.generation, unit.generation());
            }
        }
        Cdb::Out(command) => done(&before, sender, command.service_action, unit),
    }
}

/// A PERSISTENT RESERVE OUT was done.
fn done(before: &LogicalUnit, sender: NexusId, action: OutServiceAction, after: &LogicalUnit) {
    use OutServiceAction::{Clear, Register, RegisterAndIgnoreExistingKey, Release, Reserve};
    let is_counted = after.generation() != before.generation();
    assert!(!is_counted || after.generation() == before.generation().next());
    assert!(before.registrations() == after.registrations() || is_counted);
    assert!(after.unit_attentions(sender).is_empty());
    // SPC-4, 5.12: without a registration one can do no more than register.
    if !matches!(action, Register | RegisterAndIgnoreExistingKey) {
        assert!(before.key_of(sender).is_some());
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
