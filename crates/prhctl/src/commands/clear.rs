// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl clear`: CLEAR.

use std::path::Path;

use scsi_pr::OutServiceAction;

use super::KeyArgs;
use super::change::{self, Change};
use crate::console::Console;
use crate::error::Failure;
use crate::helper::DeviceResult;

pub(crate) const HELP: &str = "\
Remove the reservation and the registrations of all ports (PERSISTENT RESERVE OUT,
CLEAR).

Any registrant may send this command. The other registrants receive a unit attention.
Use it only for cleanup: running nodes lose their registrations, and fenced nodes can
write again.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl clear /dev/sdb --key 0x123abc

Exit status 0; 24 if the sender is not registered with this key; otherwise one that
'prhctl --help' lists. Some devices answer differently (docs/lio-differences.md).";

pub(crate) fn run(
    args: &KeyArgs,
    socket: &Path,
    console: Console,
) -> Result<DeviceResult<Change>, Failure> {
    let mut helper = change::open(&args.device, socket, console)?;
    let list = change::with_key(args.key);
    let sent = change::send(&mut helper, OutServiceAction::Clear, None, list);
    helper.finish(sent.map(|()| Change::Cleared))
}
