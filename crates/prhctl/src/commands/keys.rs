// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl keys`: READ KEYS.

use scsi_pr::{InServiceAction, Keys, Truncatable};

use crate::error::Error;
use crate::helper::HelperConnection;

pub(crate) const HELP: &str = query_help!(
    "\
Show the registered keys (PERSISTENT RESERVE IN, READ KEYS).

Prints one key for each registration, in the device's order. A key appears several
times if several ports registered it, or one port at several target ports. Any host
may send this query, registered or not, whatever the reservation. The generation
counts commands that change registrations; RESERVE and RELEASE do not count. If two
queries return the same number, no registration was added or removed in between."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl keys /dev/sdb
  prhctl --json keys /dev/sdb | jq -r '.keys[]' | sort | uniq -c

Exit status 0, or one that 'prhctl --help' lists.";

/// Queries the registered keys.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<Truncatable<Keys>, Error> {
    helper.query_list(InServiceAction::ReadKeys, Keys::decode)
}
