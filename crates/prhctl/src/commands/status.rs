// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl status`: READ FULL STATUS.

use scsi_pr::{FullStatus, InServiceAction, Truncatable};

use crate::error::Error;
use crate::helper::HelperConnection;
use crate::scsi_path::{PathStatus, path_statuses};

pub(crate) const HELP: &str = query_help!(
    "\
Show all registrations and the holder of the reservation (PERSISTENT RESERVE IN,
READ FULL STATUS).

Prints one line for each registration: the key, the initiator port's TransportID, the
relative target port (or all), and, for a holder, the type and scope of the
reservation. Some devices do not support this command. 'prhctl keys' and 'prhctl
reservation' print less, but every device with persistent reservations supports them.

For a multipath map, the paths without a registration follow. prhctl finds initiator
port (FC, iSCSI, SAS) and target port of a path in sysfs. Where they do not decide, the
path may be unregistered. A registration of an earlier iSCSI session at the same target
port counts as that of the path, because sysfs lacks the session identifier."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl status /dev/sdb
  prhctl --json status /dev/sdb | jq '.registrations[] | select(.is_holder)'

Exit status 0, or one that 'prhctl --help' lists.";

/// The registrations of a device, and the paths of a multipath map.
#[derive(Debug)]
pub(crate) struct DeviceStatus {
    pub(crate) registrations: Truncatable<FullStatus>,
    /// `None` if the device is not a multipath map.
    pub(crate) paths: Option<Vec<PathStatus>>,
}

/// Queries the registrations and the holders.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<DeviceStatus, Error> {
    let registrations = helper.query_list(InServiceAction::ReadFullStatus, FullStatus::decode)?;
    let map = helper.multipath_map();
    Ok(DeviceStatus {
        paths: map.map(|map| path_statuses(map, &registrations)),
        registrations,
    })
}
