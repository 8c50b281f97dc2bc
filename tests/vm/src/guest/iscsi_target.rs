// SPDX-License-Identifier: MIT OR Apache-2.0

//! Portal groups of the kernel's iSCSI target.
//!
//! The initiators have access control lists. Without them, the target would forget an initiator's
//! registrations when its session ends.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::lio_target::{TARGET, create};
use super::write;

/// Name of the target.
pub(super) const TARGET_NAME: &str = "iqn.2026-11.test:target";

/// Creates a portal group, which is a port of the logical unit of `backstore`. `portal` is an
/// address with port.
pub(super) fn create_portal_group(
    number: u8,
    portal: &str,
    backstore: &Path,
    initiators: &[String],
) -> Result<()> {
    let group = portal_group(number);
    create(&group)?;
    write(&group.join("rtpi"), &number.to_string())?;
    write(&group.join("attrib/authentication"), "0")?;
    let unit = group.join("lun/lun_0");
    create(&unit)?;
    link(backstore, &unit.join("backstore"))?;
    for initiator in initiators {
        let list = group.join("acls").join(initiator);
        let mapped = list.join("lun_0");
        create(&mapped)?;
        // No pings, as in the initiator's settings.
        write(&list.join("attrib/nopin_timeout"), "0")?;
        link(&unit, &mapped.join("unit"))?;
    }
    create(&group.join("np").join(portal))?;
    enable(number, true)
}

/// Enables or disables a portal group. The target closes the sessions of a disabled one.
pub(super) fn enable(number: u8, enabled: bool) -> Result<()> {
    let value = if enabled { "1" } else { "0" };
    write(&portal_group(number).join("enable"), value)
}

fn portal_group(number: u8) -> PathBuf {
    let target = Path::new(TARGET).join("iscsi").join(TARGET_NAME);
    target.join(format!("tpgt_{number}"))
}

fn link(to: &Path, at: &Path) -> Result<()> {
    symlink(to, at).with_context(|| format!("cannot link {} to {}", at.display(), to.display()))
}
