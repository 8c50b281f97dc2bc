// SPDX-License-Identifier: MIT OR Apache-2.0

//! The check of `fence_scsi_check`, the watchdog script of fence-agents, in a nested guest on a
//! multipath map, after resets of the logical unit.
//!
//! The nested guest has no Python. It sends the commands of the script, and this module decides as
//! the script does (fence-agents 4.12, `scsi_check` and `get_registration_keys`): TEST UNIT READY
//! with an ignored result, then READ KEYS. If READ KEYS fails or does not list the node's key, the
//! script exits with status 2, and the watchdog restarts the node.

use anyhow::{Result, ensure};

use super::initiator::{Initiator, UNIT_ATTENTION};
use super::multipath::MapFixture;

/// Number of resets. The kernel chooses a path for each command, and the check must pass whatever
/// path it chooses.
const RESETS: usize = 5;

/// Registers the guest and runs the check after each reset by another port. The guest stays
/// registered.
pub(super) fn run(
    guest: &mut impl Initiator,
    key: &str,
    port: &mut impl Initiator,
    map: &MapFixture,
) -> Result<()> {
    guest
        .persist(&format!("--out --register --param-sark={key}"))?
        .expect_code(0)?;
    map.without_path_checks(|| {
        for number in 1..=RESETS {
            let disk = port.disk();
            port.run(&format!("sg_reset --device --no-escalate {disk}"))?
                .expect_code(0)?;
            let has_key = check(guest, key)?;
            ensure!(
                has_key,
                "fence_scsi_check fails after reset {number}, and the watchdog restarts the node"
            );
        }
        Ok(())
    })
}

/// Returns whether the script finds the node's key.
fn check(guest: &mut impl Initiator, key: &str) -> Result<bool> {
    let disk = guest.disk();
    // The unit attention proves that the reset has reached the paths.
    guest
        .run(&format!("sg_turs {disk}"))?
        .expect_code(UNIT_ATTENTION)?;
    let keys = guest.run(&format!("sg_persist -n -i -k -d {disk}"))?;
    Ok(keys.has_code(0) && keys.expect_contains(key).is_ok())
}
