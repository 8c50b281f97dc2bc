// SPDX-License-Identifier: MIT OR Apache-2.0

//! The registration of this host's port among those of a device. No command returns it, so it is
//! found by the names of the ports, in sysfs or in the files of a soft LUN.

use std::path::Path;

use scsi_pr::{FullStatus, FullStatusDescriptor, TransportId, Truncatable};
use soft_lun::Nexus;
use soft_lun::store::{Lun, LunConfig};

use crate::block_device::BlockDevice;
use crate::scsi_path::{self, Owner, ScsiPath};

/// The registration of this host's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnRegistration {
    Registered(FullStatusDescriptor),
    NotRegistered {
        /// The registrations of earlier iSCSI sessions of this host.
        earlier: Vec<FullStatusDescriptor>,
        /// The registrations of other paths of this host.
        other_paths: Vec<FullStatusDescriptor>,
    },
    /// The names do not decide, or are not known.
    Unknown,
}

/// Returns the owner of each registration, as seen from the port that `path` leads through.
/// `device` is the block device at `path`, if it is one.
pub(crate) fn owners(
    path: &Path,
    device: Option<&BlockDevice>,
    registrations: &[FullStatusDescriptor],
) -> Vec<Owner> {
    let registrations = registrations.iter();
    match (device, soft_nexus(path)) {
        (Some(device), _) => {
            let paths = ScsiPath::all_of(device);
            let owners = registrations.map(|one| scsi_path::owner(&paths, one));
            owners.collect()
        }
        (None, Some(nexus)) => registrations
            .map(|one| owner_at_soft_lun(&nexus, one))
            .collect(),
        (None, None) => registrations.map(|_| Owner::Unknown).collect(),
    }
}

/// Finds the registration of this host's port. `owners` are those of the registrations. If its own
/// registrations have several keys, none is returned.
pub(crate) fn find(status: &Truncatable<FullStatus>, owners: &[Owner]) -> OwnRegistration {
    let of = |owner| {
        let all = status.value.descriptors.iter().zip(owners);
        all.filter_map(move |(one, of)| (*of == owner).then_some(one))
    };
    let mut own = of(Owner::ThisPath);
    match own.next() {
        Some(first) if own.all(|one| one.key == first.key) => {
            OwnRegistration::Registered(first.clone())
        }
        None if status.is_complete() && of(Owner::Unknown).next().is_none() => {
            OwnRegistration::NotRegistered {
                earlier: of(Owner::EarlierSession).cloned().collect(),
                other_paths: of(Owner::OtherPath).cloned().collect(),
            }
        }
        _ => OwnRegistration::Unknown,
    }
}

/// Returns the identifier of a disk: its WWN, or that of a soft LUN with a port at `path`.
pub(crate) fn disk_id(path: &Path, device: Option<&BlockDevice>) -> Option<String> {
    match device {
        Some(device) => device.wwn(),
        None => Some(soft_lun(&path.canonicalize().ok()?)?.identity.to_string()),
    }
}

/// Returns the configuration of the soft LUN with a port at `path`.
fn soft_lun(path: &Path) -> Option<LunConfig> {
    let lun = Lun::open(path.parent()?.parent()?).ok()?;
    lun.config().ok()
}

/// Returns the nexus of a port of a soft LUN.
fn soft_nexus(path: &Path) -> Option<Nexus> {
    let path = path.canonicalize().ok()?;
    let config = soft_lun(&path)?;
    let name = path.file_name()?.to_str()?;
    let port = config
        .ports
        .iter()
        .find(|port| port.name.to_string() == name)?;
    Some(port.nexus.clone())
}

/// Returns the owner of a registration of a soft LUN. Another port with the same iSCSI name stands
/// for another session.
fn owner_at_soft_lun(nexus: &Nexus, registration: &FullStatusDescriptor) -> Owner {
    let Ok(id) = &registration.transport_id else {
        return Owner::Unknown;
    };
    let is_port = registration.all_tg_pt || registration.relative_target_port == nexus.target_port;
    match (&nexus.initiator, id) {
        (own, id) if own == id && is_port => Owner::ThisPath,
        (own, id) if own == id => Owner::OtherPath,
        (TransportId::Iscsi(own), TransportId::Iscsi(id)) if own.name == id.name => {
            Owner::EarlierSession
        }
        _ => Owner::Other,
    }
}
