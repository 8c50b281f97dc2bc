// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl unregister`: REGISTER with the key zero.

use clap::Args;
use scsi_pr::{BasicParameterList, OutServiceAction, ReservationKey};

use super::change::{self, Change, PowerLossPersistence};
use super::{KeyArgs, Subcommand};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;

pub(crate) const HELP: &str = "\
Remove this initiator port's registration (PERSISTENT RESERVE OUT, REGISTER
with key zero).

If the port holds the reservation, the reservation ends too, and with the
\"registrants only\" types the other registrants receive a unit attention. With
the \"all registrants\" types, the reservation ends with the last registration.
Persistence through power loss (APTPL) stays as it is for the other
registrations. If the device does not report it, the command turns it off, and
prhctl prints a note to standard error.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl unregister /dev/sdb --key 0x123abc

Exit status 0; 24 if the port is not registered with this key; otherwise one
that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Remove this port's registration",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct UnregisterArgs {
    #[command(flatten)]
    sender: KeyArgs,
}

impl Subcommand for UnregisterArgs {
    fn run(&self, context: &Context) -> Exit {
        context.change(&self.sender.device, |helper| {
            remove_registration(helper, self.sender.key)
        })
    }
}

/// Removes the sender's registration. APTPL applies to all registrations, so it is sent as it is.
fn remove_registration(
    helper: &mut HelperConnection<'_>,
    key: ReservationKey,
) -> Result<Change, Error> {
    let persistence = PowerLossPersistence::query(helper)?;
    let list = BasicParameterList {
        aptpl: persistence == PowerLossPersistence::On,
        ..change::with_key(key)
    };
    change::send(helper, OutServiceAction::Register, None, list)?;
    persistence.note_if_unknown(helper);
    Ok(Change::Unregistered(key))
}
