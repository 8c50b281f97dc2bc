// SPDX-License-Identifier: MIT OR Apache-2.0

//! The registration of this host's port among those of a device. No command returns it, so it is
//! found by the names of the ports, in sysfs or in the files of a soft LUN.

use std::path::Path;

use scsi_pr::{FullStatus, FullStatusDescriptor, Truncatable};
use soft_lun::Nexus;
use soft_lun::store::Lun;

use crate::block_device::BlockDevice;
use crate::scsi_path::ScsiPath;

/// The registration of this host's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnRegistration {
    Registered(FullStatusDescriptor),
    NotRegistered,
    /// The names do not decide, or are not known.
    Unknown,
}

/// Finds the registration of the port that `path` leads through. `device` is the block device at
/// `path`, if it is one.
pub(crate) fn find(
    path: &Path,
    device: Option<&BlockDevice>,
    status: &Truncatable<FullStatus>,
) -> OwnRegistration {
    match device {
        Some(device) => find_of_disk(&ScsiPath::all_of(device), status),
        None => soft_nexus(path).map_or(OwnRegistration::Unknown, |nexus| {
            find_of_nexus(&nexus, status)
        }),
    }
}

/// Finds the registration of a disk with these paths. If its own registrations have several keys,
/// none is returned.
fn find_of_disk(paths: &[ScsiPath], status: &Truncatable<FullStatus>) -> OwnRegistration {
    let descriptors = status.value.descriptors.iter();
    let mut own = descriptors.filter(|one| paths.iter().any(|path| path.owns(one)));
    let Some(first) = own.next() else {
        let mut descriptors = status.value.descriptors.iter();
        let possible = descriptors.any(|one| paths.iter().any(|path| path.can_own(one)));
        return match !possible && status.is_complete() && !paths.is_empty() {
            true => OwnRegistration::NotRegistered,
            false => OwnRegistration::Unknown,
        };
    };
    match own.all(|one| one.key == first.key) {
        true => OwnRegistration::Registered(first.clone()),
        false => OwnRegistration::Unknown,
    }
}

/// Returns the nexus of a port of a soft LUN.
fn soft_nexus(path: &Path) -> Option<Nexus> {
    let path = path.canonicalize().ok()?;
    let lun = Lun::open(path.parent()?.parent()?).ok()?;
    let config = lun.config().ok()?;
    let name = path.file_name()?.to_str()?;
    let port = config
        .ports
        .iter()
        .find(|port| port.name.to_string() == name)?;
    Some(port.nexus.clone())
}

fn find_of_nexus(nexus: &Nexus, status: &Truncatable<FullStatus>) -> OwnRegistration {
    let mut descriptors = status.value.descriptors.iter();
    let own = descriptors.find(|one| {
        let is_port = one.all_tg_pt || one.relative_target_port == nexus.target_port;
        is_port && one.transport_id.as_ref() == Ok(&nexus.initiator)
    });
    match own {
        Some(own) => OwnRegistration::Registered(own.clone()),
        None if status.is_complete() => OwnRegistration::NotRegistered,
        None => OwnRegistration::Unknown,
    }
}
