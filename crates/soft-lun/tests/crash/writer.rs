//! The process that registers, and the state that it must leave.

use std::io::Write as _;
use std::path::Path;

use scsi_pr::{BasicParameterList, Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{LogicalUnit, Nexus, SupportedFeatures};

/// REGISTER AND IGNORE EXISTING KEY, 24 bytes of parameters.
const REGISTER: [u8; 10] = [0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0];

/// Creates a soft LUN with two ports.
pub(crate) fn create(path: &Path) {
    let port = |name: &str, sas_address| Port {
        name: name.parse().unwrap(),
        nexus: Nexus {
            initiator: TransportId::Sas { sas_address },
            target_port: 1.into(),
        },
    };
    let ports = vec![port("a", 0xa), port("b", 0xb)];
    Lun::create(path, ports, SupportedFeatures::default()).unwrap();
}

/// Registers with APTPL through the two ports in turn, each time with the next key. Writes the
/// number of each acknowledged registration to standard output as eight bytes.
pub(crate) fn write_until_killed(path: &Path) {
    let lun = Lun::open(path).unwrap();
    let generation = u64::from(lun.load().unwrap().generation().get());
    for number in generation + 1.. {
        register(&lun, number, true);
        write_stdout(&number.to_be_bytes());
    }
}

/// Registers without APTPL, with it, and without it again, and writes "done" after each.
pub(crate) fn write_steps(path: &Path) {
    let lun = Lun::open(path).unwrap();
    for (number, aptpl) in [(1, false), (2, true), (3, false)] {
        register(&lun, number, aptpl);
        write_stdout(b"done");
    }
}

fn write_stdout(bytes: &[u8]) {
    let mut output = std::io::stdout();
    output.write_all(bytes).unwrap();
    output.flush().unwrap();
}

fn register(lun: &Lun, number: u64, aptpl: bool) {
    let port = lun.config().unwrap().ports[port_index(number)].name.clone();
    let response = lun.execute(&port, &REGISTER, &parameter_list(number, aptpl));
    assert_eq!(response.unwrap().response.status, Status::GOOD);
}

/// Returns the parameter list of the registration that changes PRgeneration to `number`.
fn parameter_list(number: u64, aptpl: bool) -> Vec<u8> {
    let list = BasicParameterList {
        service_action_reservation_key: number.into(),
        aptpl,
        ..BasicParameterList::default()
    };
    list.encode()
}

/// Returns the index of the port that the registration uses.
fn port_index(number: u64) -> usize {
    usize::from(number % 2 == 1)
}

/// Returns the unit after `number` registrations with APTPL.
pub(crate) fn expected(lun: &Lun, number: u64) -> LogicalUnit {
    let mut unit = lun.config().unwrap().unit().unwrap();
    let nexuses: Vec<_> = unit.nexuses().map(|(id, _)| id).collect();
    for number in 1..=number {
        unit.execute(
            nexuses[port_index(number)],
            &REGISTER,
            &parameter_list(number, true),
        );
    }
    unit
}
