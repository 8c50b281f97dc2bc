// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sessions of this machine with its own iSCSI target. Each one is an initiator port of its own.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Modules;
use super::iscsi_initiator::{self, create_interface, discover, login};
use super::iscsi_target::create_portal_group;
use pr_testkit::process::{command, run as run_command};

/// The interface of open-iscsi that always exists.
pub(super) const DEFAULT_INTERFACE: &str = "default";

/// Returns the address of a portal group.
pub(super) fn portal(group: u8) -> String {
    format!("127.0.0.1:{}", 3259 + u16::from(group))
}

/// Starts the target with portal groups to the logical unit of `backstore`, numbered from 1, and
/// creates a session with each of them for each interface, in this order. `interfaces` has the
/// default interface first, and the names of the initiators. A session fails `replacement_timeout`
/// seconds after its connection.
pub(super) fn log_in(
    backstore: &Path,
    modules: &Modules,
    portal_groups: u8,
    interfaces: &[(&str, &str)],
    replacement_timeout: u32,
) -> Result<()> {
    let steps = || {
        // The kernel would look for the checksum's module in the host's directory.
        for module in ["crypto-crc32c", "iscsi_target_mod"] {
            modules.load(module)?;
        }
        run_command(command("ip").args(["link", "set", "lo", "up"]))?;
        let initiators: BTreeSet<_> = interfaces.iter().map(|(_, name)| *name).collect();
        let initiators: Vec<_> = initiators.into_iter().map(str::to_owned).collect();
        for group in 1..=portal_groups {
            create_portal_group(group, &portal(group), backstore, &initiators)?;
        }
        let ((_, name), others) = interfaces.split_first().context("no interface")?;
        iscsi_initiator::start(modules, name, replacement_timeout)?;
        for (interface, initiator) in others {
            create_interface(interface, initiator)?;
        }
        let interfaces: Vec<_> = interfaces.iter().map(|(interface, _)| *interface).collect();
        discover(&portal(1), &interfaces)?;
        for group in 1..=portal_groups {
            for interface in &interfaces {
                login(&portal(group), Some(interface))?;
            }
        }
        anyhow::Ok(())
    };
    steps().with_context(|| format!("iscsid: {}", iscsi_initiator::log()))
}
