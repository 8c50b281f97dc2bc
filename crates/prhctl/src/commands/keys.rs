// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl keys`: READ KEYS.

use clap::Args;
use scsi_pr::{InServiceAction, Keys, Truncatable};

use super::Subcommand;
use crate::context::{Context, DeviceArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::output::json::{Json, ToJson, object};
use crate::output::text::{ToText, count, truncation};

pub(crate) const HELP: &str = query_help!(
    "\
Show the registered keys (PERSISTENT RESERVE IN, READ KEYS).

Prints one key for each registration, in the device's order. A key appears
several times if several ports registered it, or one port at several target
ports. Any host may send this query, registered or not, whatever the
reservation. The generation counts commands that change registrations; RESERVE
and RELEASE do not count. If two queries return the same number, no
registration was added or removed in between."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl keys /dev/sdb
  prhctl --json keys /dev/sdb | jq -r '.keys[]' | sort | uniq -c

Exit status 0, or one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(about = "Show the registered keys", long_about = HELP, after_long_help = EXAMPLES)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Subcommand for KeysArgs {
    fn run(&self, context: &Context) -> Exit {
        context.query(&self.device, query)
    }
}

/// Queries the registered keys.
pub(crate) fn query(helper: &mut HelperConnection<'_>) -> Result<Truncatable<Keys>, Error> {
    helper.query_list(InServiceAction::ReadKeys, Keys::decode)
}

impl ToText for Truncatable<Keys> {
    fn to_text(&self) -> String {
        let Keys { generation, keys } = &self.value;
        let count = count(keys.len(), "key");
        let lines: String = keys.iter().map(|key| format!("  {key}\n")).collect();
        let truncation = truncation(self.missing);
        format!("generation {generation}, {count}\n{lines}{truncation}")
    }
}

impl ToJson for Truncatable<Keys> {
    fn to_json(&self) -> Json {
        object! {
            "generation": self.value.generation.get(),
            "keys": Json::from_iter(self.value.keys.iter().copied()),
            "missing_bytes": self.missing,
        }
    }
}
