// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl reservation`: READ RESERVATION.

use scsi_pr::{InServiceAction, ReservationData};

use crate::error::Error;
use crate::helper::HelperConnection;

pub(crate) const HELP: &str = query_help!(
    "\
Show the reservation (PERSISTENT RESERVE IN, READ RESERVATION).

Prints its type, its scope and the holder's key. With the \"all registrants\" types
there is no single holder, and the device returns no key. Any host may send this
query, registered or not."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl reservation /dev/sdb
  prhctl --json reservation /dev/sdb | jq -e '.reservation != null'

Exit status 0 whether or not there is a reservation, or one that 'prhctl --help' lists.";

/// Queries the reservation.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<ReservationData, Error> {
    helper.query_fixed(InServiceAction::ReadReservation, ReservationData::decode)
}
