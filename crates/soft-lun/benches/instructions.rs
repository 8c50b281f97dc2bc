// SPDX-License-Identifier: MIT OR Apache-2.0

//! Instruction counts of a [`LogicalUnit`] in memory: decoding, execution and response; see
//! `counted`.
//!
//! Two nodes are registered, as in many clusters. Each case leaves the unit in its initial state.

#[path = "../../scsi-pr/benches/counted/mod.rs"]
mod counted;

use std::hint::black_box;

use anyhow::Result;
use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, ReservationKey, ReservationType, ScopeType, TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response};

const KEYS: [u64; 2] = [0xaaaa, 0xbbbb];
const KIND: ReservationType = ReservationType::WriteExclusive;

/// A command of a node.
#[derive(Clone, Debug)]
enum Command {
    /// A PERSISTENT RESERVE command: CDB and parameter list.
    PersistentReserve(Vec<u8>, Vec<u8>),
    /// Another command.
    Access(Access),
}

/// A command with the index of the node that sends it.
type Step = (usize, Command);

fn out(action: OutServiceAction, key: u64, action_key: u64) -> Command {
    let list = BasicParameterList {
        reservation_key: ReservationKey::new(key),
        service_action_reservation_key: ReservationKey::new(action_key),
        ..BasicParameterList::default()
    };
    let list = list.encode();
    let cdb = Cdb::Out(PersistentReserveOut {
        service_action: action,
        scope_type: ScopeType::from(KIND),
        parameter_list_length: u32::try_from(list.len()).expect("a short list"),
        control: 0,
    });
    Command::PersistentReserve(cdb.encode().to_vec(), list)
}

/// Returns a command of the second node.
fn query(service_action: InServiceAction) -> Step {
    let cdb = Cdb::In(PersistentReserveIn {
        service_action,
        allocation_length: 8192,
        control: 0,
    });
    (
        1,
        Command::PersistentReserve(cdb.encode().to_vec(), Vec::new()),
    )
}

const fn write(node: usize) -> Step {
    (node, Command::Access(Access::Write))
}

fn register(node: usize) -> Step {
    let action = OutServiceAction::RegisterAndIgnoreExistingKey;
    (node, out(action, 0, KEYS[node]))
}

fn reserve() -> Step {
    (0, out(OutServiceAction::Reserve, KEYS[0], 0))
}

fn release() -> Step {
    (0, out(OutServiceAction::Release, KEYS[0], 0))
}

fn send(unit: &mut LogicalUnit, nexuses: &[NexusId], (node, command): &Step) -> Response {
    match command {
        Command::PersistentReserve(cdb, list) => unit.execute(nexuses[*node], cdb, list),
        Command::Access(access) => unit.access(nexuses[*node], *access),
    }
}

/// Creates a unit with two nodes, which are not registered.
fn unit() -> LogicalUnit {
    let nexus = |number: u16| Nexus {
        initiator: TransportId::Sas {
            sas_address: 0x5001_4050_0000_0000 + u64::from(number),
        },
        target_port: number.into(),
    };
    LogicalUnit::new(vec![nexus(1), nexus(2)]).expect("two nexuses")
}

fn main() -> Result<()> {
    counted::run(&[
        ("REGISTER AND IGNORE EXISTING KEY", |count| {
            repeat(count, &[], &[register(0)]);
        }),
        ("RESERVE and RELEASE", |count| {
            repeat(count, &[], &[reserve(), release()]);
        }),
        ("READ KEYS", |count| {
            repeat(count, &[], &[query(InServiceAction::ReadKeys)]);
        }),
        ("READ FULL STATUS", |count| {
            let command = query(InServiceAction::ReadFullStatus);
            repeat(count, &[reserve()], &[command]);
        }),
        ("conflicting WRITE", |count| {
            repeat(count, &[reserve()], &[write(1)]);
        }),
        ("failover", |count| repeat(count, &[], &failover())),
    ])
}

/// Executes `setup` on a unit with two registered nodes, and then `measured` `count` times.
fn repeat(count: usize, setup: &[Step], measured: &[Step]) {
    let mut unit = unit();
    let nexuses: Vec<NexusId> = unit.nexuses().map(|(id, _)| id).collect();
    for command in [register(0), register(1)].iter().chain(setup) {
        send(&mut unit, &nexuses, command);
    }
    for _ in 0..count {
        for command in measured {
            black_box(send(&mut unit, &nexuses, black_box(command)));
        }
    }
}

/// Returns the commands of a node that reserves the unit and preempts the other one, which
/// registers again.
fn failover() -> [Step; 11] {
    [
        register(0),
        reserve(),
        query(InServiceAction::ReadKeys),
        query(InServiceAction::ReadReservation),
        query(InServiceAction::ReadFullStatus),
        write(0),
        write(1),
        (0, out(OutServiceAction::Preempt, KEYS[0], KEYS[1])),
        // Reports the unit attention.
        (1, Command::Access(Access::TestUnitReady)),
        register(1),
        release(),
    ]
}
