// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl clear`: CLEAR.

use clap::Args;
use scsi_pr::OutServiceAction;

use super::change::{self, Change};
use super::{KeyArgs, Subcommand};
use crate::confirmation::ConfirmationArgs;
use crate::context::Context;
use crate::exit::Exit;

pub(crate) const HELP: &str = "\
Remove the reservation and the registrations of all ports (PERSISTENT RESERVE
OUT, CLEAR).

On a terminal, prhctl asks for confirmation first, unless --yes is given.

Any registrant may send this command. The other registrants receive a unit
attention. Use it only for cleanup: running nodes lose their registrations, and
fenced nodes can write again.

LEFT-OVER RESERVATION
  After a cluster has died, its registrations and its reservation remain. Stop
  the cluster on all nodes, register a key of your own on one host, and clear
  the device with it:
    prhctl register /dev/sdb --key 0x1
    prhctl clear /dev/sdb --key 0x1";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl clear /dev/sdb --key 0x123abc

Exit status 0; 24 if the sender is not registered with this key; otherwise one
that 'prhctl --help' lists. Some devices answer differently
(docs/lio-differences.md).";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Remove the reservation and all registrations",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    sender: KeyArgs,
    #[command(flatten)]
    confirmation: ConfirmationArgs,
}

impl Subcommand for ClearArgs {
    fn run(&self, context: &Context) -> Exit {
        let effect = "removes the reservation and the registrations of all ports";
        let device = &self.sender.device;
        context.change_if_confirmed(device, &self.confirmation, effect, |helper| {
            let list = change::with_key(self.sender.key);
            change::send(helper, OutServiceAction::Clear, None, list)?;
            Ok(Change::Cleared)
        })
    }
}
