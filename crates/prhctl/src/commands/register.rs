// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl register`: REGISTER, or REGISTER AND IGNORE EXISTING KEY.

use clap::{Args, ValueHint};
use scsi_pr::{BasicParameterList, OutServiceAction, ReservationKey, TransportId};

use super::Subcommand;
use super::change::{self, Change, PowerLossPersistence};
use crate::context::{Context, DeviceArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;

pub(crate) const HELP: &str = "\
Register a key for this host's initiator port (PERSISTENT RESERVE OUT, REGISTER
or REGISTER AND IGNORE EXISTING KEY).

Without --old-key, the port must not be registered yet. With --old-key, it must
be registered with exactly that key, which is replaced. --ignore-existing skips
that check and therefore re-registers a port that has been preempted. Never use
it on a node that may have been fenced. A reservation does not prevent others
from registering; the holder keeps it when it changes its key. On a multipath
map, the command registers all paths.

The most recent REGISTER sets persistence through power loss for the whole
device and all initiators: on with --aptpl, off without it. If the command
turns it off, prhctl prints a note to standard error.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl register /dev/sdb --key 0x123abc --aptpl
  prhctl register /dev/sdb --key 0x456 --old-key 0x123abc
  prhctl register /dev/sdb --key 0x123abc --initiator sas,5000c50005b32001

Exit status 0; 24 if the old key is not the registered one, or if the port is
already registered and --old-key is missing; otherwise one that 'prhctl --help'
lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Register a key",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Key to register
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_nonzero_key,
        allow_negative_numbers = true
    )]
    pub(crate) key: ReservationKey,
    /// Key that the port is registered with now
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_key, allow_negative_numbers = true,
        conflicts_with = "ignore_existing"
    )]
    pub(crate) old_key: Option<ReservationKey>,
    /// Replace any registered key
    #[arg(long)]
    pub(crate) ignore_existing: bool,
    /// Persist through a power loss
    #[arg(long)]
    pub(crate) aptpl: bool,
    /// Register at all target ports of the device
    #[arg(long)]
    pub(crate) all_target_ports: bool,
    /// Also register this initiator port (repeatable)
    #[arg(
        long, value_name = "TRANSPORTID", value_hint = ValueHint::Other,
        conflicts_with = "ignore_existing"
    )]
    pub(crate) initiator: Vec<TransportId>,
}

impl Subcommand for RegisterArgs {
    fn run(&self, context: &Context) -> Exit {
        context.change(&self.device, |helper| register(helper, self))
    }
}

fn register(helper: &mut HelperConnection<'_>, args: &RegisterArgs) -> Result<Change, Error> {
    let action = match args.ignore_existing {
        true => OutServiceAction::RegisterAndIgnoreExistingKey,
        false => OutServiceAction::Register,
    };
    let list = BasicParameterList {
        reservation_key: args.old_key.unwrap_or_default(),
        service_action_reservation_key: args.key,
        spec_i_pt: (!args.initiator.is_empty()).then(|| args.initiator.clone()),
        all_tg_pt: args.all_target_ports,
        aptpl: args.aptpl,
    };
    let persistence = PowerLossPersistence::query(helper)?;
    change::send(helper, action, None, list)?;
    persistence.note_if_lost(helper, args.aptpl);
    Ok(Change::Registered {
        key: args.key,
        action,
    })
}
