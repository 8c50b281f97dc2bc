// SPDX-License-Identifier: MIT OR Apache-2.0

//! A host's iSCSI sessions, one for each portal of the target.

use anyhow::Result;

use super::iscsi_target::{PORTALS, initiator_name};
use super::network;
use crate::guest::{Modules, iscsi_initiator};
use crate::role::Role;
use pr_testkit::process::{command, run};

/// Time in seconds after which a session without a connection fails.
const REPLACEMENT_TIMEOUT: u32 = 1;

/// Logs in to the portals, and returns the names of their disks (`sda`), in the order of the
/// portals.
pub(super) fn login(host: Role, modules: &Modules) -> Result<[String; 2]> {
    modules.load("tcp_diag")?;
    iscsi_initiator::start(modules, &initiator_name(host), REPLACEMENT_TIMEOUT)?;
    for number in PORTALS {
        let portal = network::portal(number);
        iscsi_initiator::create_record(number, &portal)?;
        iscsi_initiator::login(&portal, None)?;
    }
    let [one, two] = PORTALS.map(|number| iscsi_initiator::disk("tpgt", &number.to_string()));
    Ok([one?, two?])
}

/// Closes the connections to a portal, so that the kernel notices at once that the network is
/// interrupted.
pub(super) fn close_connections(portal: u8) -> Result<()> {
    run(command("ss").args(["--kill", "dst", &network::portal(portal)]))
}
