// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel's iSCSI target: a logical unit with two ports (target portal groups), each with a
//! portal of its own.

use std::path::PathBuf;

use anyhow::Result;

use super::network;
use crate::guest::Modules;
use crate::guest::iscsi_target::create_portal_group;
use crate::guest::lio_target::{self, Target, create_backstore};
use crate::role::Role;

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
    let initiators = Role::HOSTS.map(initiator_name);
    for portal in PORTALS {
        create_portal_group(portal, &network::portal(portal), &backstore, &initiators)?;
    }
    Ok(IscsiUnit {
        image: lio_target::image(UNIT).into(),
        reservations: backstore.join("pr"),
    })
}
