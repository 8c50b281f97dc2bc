// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl capabilities`: REPORT CAPABILITIES.

use scsi_pr::{Capabilities, InServiceAction};

use crate::error::Error;
use crate::helper::HelperConnection;

pub(crate) const HELP: &str = query_help!(
    "\
Show what the device supports (PERSISTENT RESERVE IN, REPORT CAPABILITIES).

Prints which reservation types the device supports, whether it can register other
initiator ports or all target ports with one command, and whether it can keep
registrations through a power loss (APTPL). These are the device's own statements."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl capabilities /dev/sdb

Exit status 0, or one that 'prhctl --help' lists.";

/// Queries the capabilities.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<Capabilities, Error> {
    helper.query_fixed(InServiceAction::ReportCapabilities, Capabilities::decode)
}
