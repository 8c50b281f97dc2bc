// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel's iSCSI target: a logical unit with two ports (target portal groups), each with a
//! portal of its own.
//!
//! The initiators have access control lists. Without them, the target would forget an initiator's
//! registrations when its session ends.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::network;
use crate::guest::lio_target::{self, Target, create, create_backstore};
use crate::guest::{Modules, write};
use crate::role::Role;

/// Name of the target.
pub(super) const TARGET_NAME: &str = "iqn.2026-11.test:target";

/// Portals, which are also the numbers of their portal groups and ports.
pub(super) const PORTALS: [u8; 2] = [1, 2];

/// Number of the logical unit's backstore.
const UNIT: u32 = 0;

/// Returns the name of a host's initiator.
pub(super) fn initiator_name(host: Role) -> String {
    format!("iqn.2026-11.test:{}", host.name())
}

/// A logical unit that both hosts can reach through both portals.
pub(super) struct IscsiUnit {
    /// File with the content of the unit.
    pub(super) image: PathBuf,
    /// Directory in configfs with the state of the unit's reservations.
    pub(super) reservations: PathBuf,
}

/// Starts the target.
pub(super) fn start(modules: &Modules) -> Result<IscsiUnit> {
    Target::start(modules)?;
    modules.load("iscsi_target_mod")?;
    let backstore = create_backstore(UNIT)?;
    for portal in PORTALS {
        create_portal_group(portal, &backstore)?;
    }
    Ok(IscsiUnit {
        image: lio_target::image(UNIT).into(),
        reservations: backstore.join("pr"),
    })
}

fn create_portal_group(portal: u8, backstore: &Path) -> Result<()> {
    let target = Path::new(lio_target::TARGET)
        .join("iscsi")
        .join(TARGET_NAME);
    let group = target.join(format!("tpgt_{portal}"));
    create(&group)?;
    write(&group.join("rtpi"), &portal.to_string())?;
    write(&group.join("attrib/authentication"), "0")?;
    let unit = group.join("lun/lun_0");
    create(&unit)?;
    link(backstore, &unit.join("backstore"))?;
    for host in Role::HOSTS {
        let list = group.join("acls").join(initiator_name(host));
        let mapped = list.join("lun_0");
        create(&mapped)?;
        // No pings, as in the initiator's settings.
        write(&list.join("attrib/nopin_timeout"), "0")?;
        link(&unit, &mapped.join("unit"))?;
    }
    create(&group.join("np").join(network::portal(portal)))?;
    write(&group.join("enable"), "1")
}

fn link(to: &Path, at: &Path) -> Result<()> {
    symlink(to, at).with_context(|| format!("cannot link {} to {}", at.display(), to.display()))
}
