// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl capabilities`: REPORT CAPABILITIES.

use clap::Args;
use scsi_pr::{Capabilities, InServiceAction};

use super::Subcommand;
use crate::context::{Context, DeviceArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;
use crate::output::json::{Json, ToJson, object};
use crate::output::text::{ToText, name_value_table};

pub(crate) const HELP: &str = query_help!(
    "\
Show what the device supports (PERSISTENT RESERVE IN, REPORT CAPABILITIES).

Prints which reservation types the device supports, whether it can register
other initiator ports or all target ports with one command, and whether it can
keep registrations through a power loss (APTPL). These are the device's own
statements."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl capabilities /dev/sdb

Exit status 0, or one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(about = "Show what the device supports", long_about = HELP, after_long_help = EXAMPLES)]
pub(crate) struct CapabilitiesArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Subcommand for CapabilitiesArgs {
    fn run(&self, context: &Context) -> Exit {
        context.query(&self.device, query)
    }
}

/// Queries the capabilities.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<Capabilities, Error> {
    helper.query_fixed(InServiceAction::ReportCapabilities, Capabilities::decode)
}

impl ToText for Capabilities {
    fn to_text(&self) -> String {
        let yes_no = |value: bool| if value { "yes" } else { "no" }.to_owned();
        let types = match self.type_mask {
            None => "not reported".to_owned(),
            Some(mask) => {
                let types: Vec<_> = mask.types().map(labels::short_type).collect();
                types.join(" ")
            }
        };
        let rows = [
            ("types", types),
            (
                "can persist through a power loss (PTPL_C)",
                yes_no(self.persist_through_power_loss),
            ),
            (
                "persists through a power loss now (PTPL_A)",
                yes_no(self.persist_through_power_loss_active),
            ),
            (
                "can register at all target ports (ATP_C)",
                yes_no(self.all_target_ports),
            ),
            (
                "can register other initiator ports (SIP_C)",
                yes_no(self.specify_initiator_ports),
            ),
            (
                "accepts SPC-2 RESERVE from the holder (CRH)",
                yes_no(self.compatible_reservation_handling),
            ),
            (
                "supports REPLACE LOST RESERVATION (RLR_C)",
                yes_no(self.replace_lost_reservation),
            ),
            (
                "commands allowed to others (ALLOW COMMANDS)",
                self.allow_commands.to_string(),
            ),
        ];
        format!("capabilities\n{}", name_value_table(rows))
    }
}

impl ToJson for Capabilities {
    fn to_json(&self) -> Json {
        let types = self
            .type_mask
            .map(|mask| mask.types().map(labels::long_type).collect());
        object! {
            "types": types.unwrap_or(Json::Null),
            "persist_through_power_loss": self.persist_through_power_loss,
            "persist_through_power_loss_active": self.persist_through_power_loss_active,
            "all_target_ports": self.all_target_ports,
            "specify_initiator_ports": self.specify_initiator_ports,
            "compatible_reservation_handling": self.compatible_reservation_handling,
            "replace_lost_reservation": self.replace_lost_reservation,
            "allow_commands": self.allow_commands.get(),
        }
    }
}
