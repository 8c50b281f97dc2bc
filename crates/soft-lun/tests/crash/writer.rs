//! The process that registers, and what it must leave behind.

use std::io::Write as _;
use std::path::Path;

use scsi_pr::{BasicParameterList, Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{LogicalUnit, Nexus, SupportedFeatures};

/// REGISTER AND IGNORE EXISTING KEY, 24 bytes of parameters.
const REGISTER: [u8; 10] = [0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0];

/// A soft LUN with two ports.
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

/// Registers with APTPL through the two ports in turn, each time with the next key, and says each number
/// on standard output, as eight bytes, when it was acknowledged.
pub(crate) fn write_until_killed(path: &Path) {
    let lun = Lun::open(path).unwrap();
    let generation = u64::from(lun.load().unwrap().generation().get());
    for number in generation + 1.. {
        register(&lun, number, true);
        say(&number.to_be_bytes());
    }
}

/// Registers without APTPL, with it, and without it again, and says "done" after each.
pub(crate) fn write_steps(path: &Path) {
    let lun = Lun::open(path).unwrap();
    for (number, aptpl) in [(1, false), (2, true), (3, false)] {
        register(&lun, number, aptpl);
        say(b"done");
    }
}

fn say(bytes: &[u8]) {
    let mut output = std::io::stdout();
    output.write_all(bytes).unwrap();
    output.flush().unwrap();
}

fn register(lun: &Lun, number: u64, aptpl: bool) {
    let port = lun.config().unwrap().ports[place(number)].name.clone();
    let answer = lun.execute(&port, &REGISTER, &registration(number, aptpl));
    assert_eq!(answer.unwrap().response.status, Status::GOOD);
}

/// The registration that brings PRgeneration to `number`.
fn registration(number: u64, aptpl: bool) -> Vec<u8> {
    let list = BasicParameterList {
        service_action_reservation_key: number.into(),
        aptpl,
        ..BasicParameterList::default()
    };
    list.encode()
}

/// The place of the port that it goes through.
fn place(number: u64) -> usize {
    usize::from(number % 2 == 1)
}

/// The unit after `number` registrations with APTPL.
pub(crate) fn expected(lun: &Lun, number: u64) -> LogicalUnit {
    let mut unit = lun.config().unwrap().unit().unwrap();
    let nexuses: Vec<_> = unit.nexuses().map(|(id, _)| id).collect();
    for number in 1..=number {
        unit.execute(
            nexuses[place(number)],
            &REGISTER,
            &registration(number, true),
        );
    }
    unit
}
