// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl reserve`: RESERVE.

use clap::Args;
use scsi_pr::{OutServiceAction, ReservationType};

use super::change::{self, Change};
use super::{KeyArgs, Subcommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::labels;

pub(crate) const HELP: &str = "\
Reserve the device (PERSISTENT RESERVE OUT, RESERVE).

The sender must be registered with the given key. The reservation then
restricts all other ports according to its type. To change the type, release
the reservation or, as the holder, preempt your own key.

On a multipath map, use a type for registrants (we-ro, ea-ro, we-ar, ea-ar).
With we and ea, only the path that holds the reservation can write, and writes
through the other paths fail. prhctl prints a note then.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl reserve /dev/sdb --key 0x123abc --type we-ro
  prhctl reserve /dev/sdb --key 0x123abc --type 5      the same type

Exit status 0, also if the sender already holds this reservation; 24 if another
port holds one, the type differs, or the key is wrong; otherwise one that
'prhctl --help' lists. Some devices answer differently
(docs/lio-differences.md).";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Reserve the device",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ReserveArgs {
    #[command(flatten)]
    pub(crate) sender: KeyArgs,
    #[arg(
        long = "type", value_name = "TYPE", value_parser = labels::RESERVATION_TYPE,
        allow_negative_numbers = true,
        hide_possible_values = true, help = concat!("Type: ", type_names!())
    )]
    pub(crate) reservation_type: ReservationType,
}

impl Subcommand for ReserveArgs {
    fn run(&self, context: &Context) -> Exit {
        context.change(&self.sender.device, |helper| {
            let (key, kind) = (self.sender.key, self.reservation_type);
            let action = OutServiceAction::Reserve;
            change::send(helper, action, Some(kind.into()), change::with_key(key))?;
            change::note_exclusive_type(helper, kind);
            Ok(Change::Reserved(key, kind))
        })
    }
}
