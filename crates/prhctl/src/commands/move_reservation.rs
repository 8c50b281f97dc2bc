// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl move`: REGISTER AND MOVE.

use clap::{Args, ValueHint};
use scsi_pr::{OutServiceAction, RegisterAndMove, RelativeTargetPort, ReservationKey, TransportId};

use super::change::{self, Change, PowerLossPersistence};
use super::{KeyArgs, Subcommand, reservation};
use crate::confirmation::ConfirmationArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;

pub(crate) const HELP: &str = "\
Transfer the reservation to another initiator port (PERSISTENT RESERVE OUT,
REGISTER AND MOVE).

The command registers the port with the new key and makes it the holder. The
sender must hold the reservation, of a type other than the \"all registrants\"
types. 'prhctl status' shows TransportIDs and target ports in the form used
here.

Without --aptpl, the command turns persistence through power loss off for the
whole device and all initiators. If it was on, prhctl prints a note to standard
error.

On a terminal, prhctl asks for confirmation first, unless --yes is given.";
/// The usage in two lines, because clap does not wrap it.
pub(crate) const USAGE: &str = "\
prhctl move [OPTIONS] --key <KEY> --new-key <KEY> --to <TRANSPORTID>
                   --target-port <NUMBER> <DEVICE>";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl move /dev/sdb --key 0x123abc --new-key 0x456 \\
      --to sas,5000c50005b32001 --target-port 2 --unregister

Exit status 0; 24 if the sender does not hold the reservation with this key;
otherwise one that 'prhctl --help' lists. Some devices answer differently
(docs/lio-differences.md).";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Transfer the reservation to another initiator port",
    long_about = HELP, after_long_help = EXAMPLES,
    override_usage = USAGE
)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    pub(crate) sender: KeyArgs,
    /// Key to register for the new holder
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_nonzero_key,
        allow_negative_numbers = true
    )]
    pub(crate) new_key: ReservationKey,
    /// Initiator port of the new holder
    #[arg(long, value_name = "TRANSPORTID", value_hint = ValueHint::Other)]
    pub(crate) to: TransportId,
    /// Relative target port number of the new holder
    #[arg(
        long, value_name = "NUMBER", value_hint = ValueHint::Other,
        value_parser = labels::parse_target_port,
        allow_negative_numbers = true
    )]
    pub(crate) target_port: RelativeTargetPort,
    /// Remove the sender's registration
    #[arg(long)]
    pub(crate) unregister: bool,
    /// Persist through a power loss
    #[arg(long)]
    pub(crate) aptpl: bool,
    #[command(flatten)]
    confirmation: ConfirmationArgs,
}

impl Subcommand for MoveArgs {
    fn run(&self, context: &Context) -> Exit {
        let effect = format!("transfers the reservation to {}", self.to);
        let device = &self.sender.device;
        context.change_if_confirmed(device, &self.confirmation, &effect, |helper| {
            register_and_move(helper, self)
        })
    }
}

fn register_and_move(helper: &mut HelperConnection<'_>, args: &MoveArgs) -> Result<Change, Error> {
    let list = RegisterAndMove {
        reservation_key: args.sender.key,
        service_action_reservation_key: args.new_key,
        unregister: args.unregister,
        aptpl: args.aptpl,
        relative_target_port: args.target_port,
        transport_id: args.to.clone(),
    };
    // Devices require the scope and type of the reservation.
    let held = reservation::query(helper)?.reservation;
    let scope_type = held.map(|reservation| reservation.scope_type);
    let persistence = PowerLossPersistence::query(helper)?;
    change::send(helper, OutServiceAction::RegisterAndMove, scope_type, list)?;
    persistence.note_if_lost(helper, args.aptpl);
    Ok(Change::Moved {
        key: args.new_key,
        to: args.to.clone(),
    })
}
