// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands to a real logical unit: a LIO target with two initiator ports.
//!
//! A case is a transcript (`step.rs`) that starts with a clean unit (`lun.rs`). Expectations follow
//! SPC-4, or LIO's behavior if it deviates.

mod access;
mod errors;
mod lun;
mod nodes;
mod read;
mod register;
mod reserve;
mod step;
mod transport;
mod wire;

use crate::case::Case;
use crate::need::Need;

pub(crate) fn cases() -> Vec<Case> {
    let on_ports = read::cases()
        .into_iter()
        .chain(register::cases())
        .chain(reserve::cases())
        .chain(access::cases())
        .chain(transport::cases())
        .chain(errors::cases())
        .map(|case| case.needs(Need::Variable(lun::PORTS)));
    on_ports
        .chain(nodes::cases())
        .map(|case| case.needs(Need::Root))
        .collect()
}
