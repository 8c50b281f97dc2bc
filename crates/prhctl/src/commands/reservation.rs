// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl reservation`: READ RESERVATION.

use clap::Args;
use scsi_pr::{InServiceAction, ReservationData, ReservationDescriptor};

use super::Subcommand;
use crate::context::{Context, DeviceArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::output::json::{Json, ToJson, object};
use crate::output::text::{ToText, is_all_registrants, name_value_table, scope, type_name};

pub(crate) const HELP: &str = query_help!(
    "\
Show the reservation (PERSISTENT RESERVE IN, READ RESERVATION).

Prints its type, its scope and the holder's key. With the \"all registrants\"
types there is no single holder, and the device returns no key. Any host may
send this query, registered or not."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl reservation /dev/sdb
  prhctl --json reservation /dev/sdb | jq -e '.reservation != null'

Exit status 0 whether or not there is a reservation, or one that
'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(about = "Show the reservation", long_about = HELP, after_long_help = EXAMPLES)]
pub(crate) struct ReservationArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Subcommand for ReservationArgs {
    fn run(&self, context: &Context) -> Exit {
        context.query(&self.device, query)
    }
}

/// Queries the reservation.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<ReservationData, Error> {
    helper.query_fixed(InServiceAction::ReadReservation, ReservationData::decode)
}

impl ToText for ReservationData {
    fn to_text(&self) -> String {
        let generation = self.generation;
        let Some(ReservationDescriptor { key, scope_type }) = self.reservation else {
            return format!("generation {generation}, no reservation\n");
        };
        let holder = match is_all_registrants(scope_type) {
            true => "all registrants".to_owned(),
            false => format!("key {key}"),
        };
        let rows = name_value_table([
            ("holder", holder),
            ("type", type_name(scope_type)),
            ("scope", scope(scope_type)),
        ]);
        format!("generation {generation}, reserved\n{rows}")
    }
}

impl ToJson for ReservationData {
    fn to_json(&self) -> Json {
        object! {
            "generation": self.generation.get(),
            "reservation": self.reservation.as_ref().map(ToJson::to_json),
        }
    }
}
