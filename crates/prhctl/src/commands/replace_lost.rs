// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl replace-lost`: REPLACE LOST RESERVATION.

use clap::{Args, ValueHint};
use scsi_pr::{BasicParameterList, OutServiceAction, ReservationKey, ReservationType};

use super::Subcommand;
use super::change::{self, Change};
use crate::confirmation::ConfirmationArgs;
use crate::context::{Context, DeviceArgs};
use crate::exit::Exit;
use crate::labels;

pub(crate) const HELP: &str = "\
Begin again after a device has lost its reservations (PERSISTENT RESERVE OUT,
REPLACE LOST RESERVATION).

A device that cannot restore its registrations, after a failure of its memory
for example, reports that they are lost. This command removes what is left,
registers the sender with the given key, and reserves the device for it.
'prhctl capabilities' shows whether the device supports it.

On a terminal, prhctl asks for confirmation first, unless --yes is given.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl replace-lost /dev/sdb --key 0x123abc --type we-ro

Exit status 0; 5 if the device does not support the command or has lost
nothing; otherwise one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Begin again after a device has lost its reservations",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ReplaceLostArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Key to register
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_nonzero_key, allow_negative_numbers = true
    )]
    key: ReservationKey,
    #[arg(
        long = "type", value_name = "TYPE", value_parser = labels::RESERVATION_TYPE,
        allow_negative_numbers = true,
        hide_possible_values = true, help = concat!("Type: ", type_names!())
    )]
    reservation_type: ReservationType,
    #[command(flatten)]
    confirmation: ConfirmationArgs,
}

impl Subcommand for ReplaceLostArgs {
    fn run(&self, context: &Context) -> Exit {
        let effect = "removes all registrations and reserves the device";
        let (key, kind) = (self.key, self.reservation_type);
        context.change_if_confirmed(&self.device, &self.confirmation, effect, |helper| {
            let list = BasicParameterList {
                service_action_reservation_key: key,
                ..BasicParameterList::default()
            };
            let action = OutServiceAction::ReplaceLostReservation;
            change::send(helper, action, Some(kind.into()), list)?;
            Ok(Change::Replaced(key, kind))
        })
    }
}
