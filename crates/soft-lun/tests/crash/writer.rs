// SPDX-License-Identifier: MIT OR Apache-2.0

//! The process that registers, and the state that it must leave.

use std::io::Write as _;
use std::path::Path;

use pr_testkit::cdb::{PrCommand, key_list, register_and_ignore_with};
use pr_testkit::soft_lun::two_ports;
use scsi_pr::{BasicParameterList, Status};
use soft_lun::store::Lun;
use soft_lun::{LogicalUnit, SupportedFeatures};

/// Creates a soft LUN with two ports.
pub(crate) fn create(path: &Path) {
    Lun::create(path, two_ports(), SupportedFeatures::default()).unwrap();
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
    let command = command(number, aptpl);
    let response = lun.execute(&port, &command.cdb, &command.parameter_list);
    assert_eq!(response.unwrap().response.status, Status::GOOD);
}

/// Returns the registration that changes PRgeneration to `number`.
fn command(number: u64, aptpl: bool) -> PrCommand {
    register_and_ignore_with(&BasicParameterList {
        aptpl,
        ..key_list(0, number)
    })
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
        let command = command(number, true);
        let nexus = nexuses[port_index(number)];
        unit.execute(nexus, &command.cdb, &command.parameter_list);
    }
    unit
}
