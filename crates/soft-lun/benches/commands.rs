//! Commands per second of a [`LogicalUnit`] in memory: decoding, execution and response.
//!
//! Two nodes are registered, as in many clusters. Each workload leaves the unit in its initial
//! state.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
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

/// A sequence of commands, each with the index of the node that sends it.
type Workload = Vec<(usize, Command)>;

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

fn reserve_in(service_action: InServiceAction) -> Command {
    let cdb = Cdb::In(PersistentReserveIn {
        service_action,
        allocation_length: 8192,
        control: 0,
    });
    Command::PersistentReserve(cdb.encode().to_vec(), Vec::new())
}

fn register(node: usize) -> (usize, Command) {
    let action = OutServiceAction::RegisterAndIgnoreExistingKey;
    (node, out(action, 0, KEYS[node]))
}

fn reserve() -> (usize, Command) {
    (0, out(OutServiceAction::Reserve, KEYS[0], 0))
}

fn release() -> (usize, Command) {
    (0, out(OutServiceAction::Release, KEYS[0], 0))
}

/// Returns the name, the setup and the measured commands of each workload.
fn workloads() -> Vec<(&'static str, Workload, Workload)> {
    let read_keys = (1, reserve_in(InServiceAction::ReadKeys));
    let read_full_status = (1, reserve_in(InServiceAction::ReadFullStatus));
    let conflicting_write = (1, Command::Access(Access::Write));
    let mixed = vec![
        register(0),
        reserve(),
        read_keys.clone(),
        (1, reserve_in(InServiceAction::ReadReservation)),
        read_full_status.clone(),
        (0, Command::Access(Access::Write)),
        conflicting_write.clone(),
        (0, out(OutServiceAction::Preempt, KEYS[0], KEYS[1])),
        // Reports the unit attention.
        (1, Command::Access(Access::TestUnitReady)),
        register(1),
        release(),
    ];
    vec![
        ("register", vec![], vec![register(0)]),
        ("reserve_release", vec![], vec![reserve(), release()]),
        ("read_keys", vec![], vec![read_keys]),
        ("read_full_status", vec![reserve()], vec![read_full_status]),
        ("refused_write", vec![reserve()], vec![conflicting_write]),
        ("mixed", vec![], mixed),
    ]
}

fn send(
    unit: &mut LogicalUnit,
    nexuses: &[NexusId],
    (node, command): &(usize, Command),
) -> Response {
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

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("commands");
    for (name, setup, measured) in workloads() {
        let mut unit = unit();
        let nexuses: Vec<NexusId> = unit.nexuses().map(|(id, _)| id).collect();
        for command in [register(0), register(1)].iter().chain(&setup) {
            send(&mut unit, &nexuses, command);
        }
        let commands = u64::try_from(measured.len()).expect("a short list");
        group.throughput(Throughput::Elements(commands));
        group.bench_function(name, |bench| {
            bench.iter(|| {
                for command in &measured {
                    black_box(send(&mut unit, &nexuses, black_box(command)));
                }
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
