// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl status`: READ FULL STATUS.

use scsi_pr::{FullStatus, InServiceAction, Truncatable};

use crate::error::Error;
use crate::helper::HelperConnection;

pub(crate) const HELP: &str = query_help!(
    "\
Show all registrations and the holder of the reservation (PERSISTENT RESERVE IN,
READ FULL STATUS).

Prints one line for each registration: the key, the initiator port's TransportID, the
relative target port (or all), and, for a holder, the type and scope of the
reservation. Some devices do not support this command. 'prhctl keys' and 'prhctl
reservation' print less, but every device with persistent reservations supports them."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl status /dev/sdb
  prhctl --json status /dev/sdb | jq '.registrations[] | select(.is_holder)'

Exit status 0, or one that 'prhctl --help' lists.";

/// Queries the registrations and the holders.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<Truncatable<FullStatus>, Error> {
    helper.query_list(InServiceAction::ReadFullStatus, FullStatus::decode)
}
