//! Commands that reach a real logical unit: a kernel target with two initiator ports.
//!
//! A case is a transcript (`step.rs`) that begins with a clean unit (`lun.rs`). Expectations follow
//! SPC-4, and the kernel's target where it does otherwise.

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

use crate::case::{Case, Need};

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
