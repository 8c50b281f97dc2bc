// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl preempt`: PREEMPT, or PREEMPT AND ABORT.

use clap::{Args, ValueHint};
use scsi_pr::{BasicParameterList, OutServiceAction, ReservationKey, ReservationType};

use super::change::{self, Change};
use super::{KeyArgs, Subcommand};
use crate::confirmation::ConfirmationArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::labels;

pub(crate) const HELP: &str = "\
Remove other ports' registrations and take over their reservation (PERSISTENT
RESERVE OUT, PREEMPT, or PREEMPT AND ABORT with --abort).

Clusters fence a node with this command. Any registrant may send it. The device
removes all registrations with the victim's key. If they held the reservation,
the sender becomes the holder, with the given type; otherwise the type is
ignored. The victims receive a unit attention. 'prhctl status' shows the keys
and the type of the reservation.

If the reservation has an \"all registrants\" type, --victim 0 removes all other
registrations and takes over the reservation. It is invalid for other types.

Without --abort, the device still executes writes that the victim has already
sent: use --abort, or power off the victim's node first.

On a terminal, prhctl asks for confirmation first, unless --yes is given.

YOUR OWN KEY
  If the reservation is held with this key, the sender keeps its registration
  and holds the reservation, with the given type. Other ports with the key,
  also other paths of the same host, lose their registrations; on a multipath
  map, all paths keep them. Otherwise the sender loses its registration, too.";
/// The usage in two lines, because clap does not wrap it.
const USAGE: &str = "\
prhctl preempt [OPTIONS] --key <KEY> --victim <KEY> --type <TYPE>
                      <DEVICE>";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl preempt /dev/sdb --key 0x123abc --victim 0x456 --type we-ro --abort

Exit status 0; 24 if the sender is not registered with this key, or no port is
registered with the victim's key; otherwise one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Remove other ports' registrations and reservation (fencing)",
    long_about = HELP, after_long_help = EXAMPLES, override_usage = USAGE
)]
pub(crate) struct PreemptArgs {
    #[command(flatten)]
    pub(crate) sender: KeyArgs,
    /// Key of the registrations to remove
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_key,
        allow_negative_numbers = true
    )]
    pub(crate) victim: ReservationKey,
    #[arg(
        long = "type", value_name = "TYPE", value_parser = labels::RESERVATION_TYPE,
        allow_negative_numbers = true,
        hide_possible_values = true,
        help = concat!("New type, if the victim held the reservation:\n", type_names!())
    )]
    pub(crate) reservation_type: ReservationType,
    /// Also abort the victim's commands
    #[arg(long)]
    pub(crate) abort: bool,
    #[command(flatten)]
    confirmation: ConfirmationArgs,
}

impl Subcommand for PreemptArgs {
    fn run(&self, context: &Context) -> Exit {
        let action = match self.abort {
            true => OutServiceAction::PreemptAndAbort,
            false => OutServiceAction::Preempt,
        };
        let list = BasicParameterList {
            service_action_reservation_key: self.victim,
            ..change::with_key(self.sender.key)
        };
        let victim = self.victim;
        let effect = format!("removes the registrations with key {victim}, and their reservation");
        let device = &self.sender.device;
        context.change_if_confirmed(device, &self.confirmation, &effect, |helper| {
            change::send(
                helper,
                action,
                Some(self.reservation_type.into()),
                list.clone(),
            )?;
            change::note_exclusive_type(helper, self.reservation_type);
            Ok(Change::Preempted {
                sender: self.sender.key,
                victim: self.victim,
                action,
            })
        })
    }
}
