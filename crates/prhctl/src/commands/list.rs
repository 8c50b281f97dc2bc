// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl list`: the SCSI disks and multipath maps of this host, with keys and reservations.

use std::path::PathBuf;

use anstyle::Style;
use clap::Args;
use pr_helper_protocol::Direction;
use scsi_pr::{ReservationDescriptor, ReservationKey};

use super::{Subcommand, keys, reservation};
use crate::block_device::BlockDevice;
use crate::console::{GOOD, INVALID, PLAIN, table_or_cells};
use crate::context::{Context, HelperArgs};
use crate::error::{Error, ErrorText, Failure};
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;
use crate::output::json::{self, Json, ToJson, array, object};
use crate::output::text::{ToText, is_all_registrants};

pub(crate) const HELP: &str = query_help!(
    "\
List the SCSI disks and multipath maps of this host with their WWNs, keys and
reservations (PERSISTENT RESERVE IN, READ KEYS and READ RESERVATION).

Each logical unit is listed once, a multipath map instead of its paths. A disk
that cannot be opened or queried is listed with the error."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl list
  prhctl --json list | jq -r '.devices[] | select(.reservation) | .device'

Exit status 0, or one that 'prhctl --help' lists if no disk can be queried.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "List SCSI disks and multipath maps with keys and reservations",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    helper: HelperArgs,
}

impl Subcommand for ListArgs {
    fn run(&self, context: &Context) -> Exit {
        let options = match context.helper(&self.helper) {
            Ok(options) => options,
            Err(error) => return context.print_failure(&error.into()),
        };
        let disks = BlockDevice::scsi_disks().into_iter().map(|device| {
            let node = PathBuf::from(device.node());
            let opened = HelperConnection::open(&options, &node, Direction::In);
            let state = opened.and_then(|mut helper| {
                let result = query(&mut helper);
                helper.finish(result)
            });
            (device, state.map(|result| result.value))
        });
        let (mut list, mut first_failure) = (Vec::new(), None);
        for (device, state) in disks {
            let state = state.map_err(|failure| {
                let text = ErrorText::new(failure.error.as_ref()).message;
                first_failure.get_or_insert(failure);
                text
            });
            list.push(Disk { device, state });
        }
        match first_failure {
            // The helper cannot be reached, for example.
            Some(failure) if list.iter().all(|disk| disk.state.is_err()) => {
                context.print_failure(&failure)
            }
            _ => context.finish(Ok::<_, Failure>(DiskList(list))),
        }
    }
}

/// Disks and maps.
#[derive(Debug)]
struct DiskList(Vec<Disk>);

#[derive(Debug)]
struct Disk {
    device: BlockDevice,
    /// The state, or the text of an error.
    state: Result<DiskState, String>,
}

/// Registrations and reservation of a disk.
#[derive(Debug)]
struct DiskState {
    keys: Vec<ReservationKey>,
    reservation: Option<ReservationDescriptor>,
}

fn query(helper: &mut HelperConnection<'_>) -> Result<DiskState, Error> {
    Ok(DiskState {
        keys: keys::query(helper)?.value.keys,
        reservation: reservation::query(helper)?.reservation,
    })
}

impl ToText for DiskList {
    fn to_text(&self) -> String {
        match self.0.is_empty() {
            true => "no SCSI disks\n".to_owned(),
            false => {
                let header = ["DEVICE", "WWN", "PATHS", "KEYS", "TYPE", "HOLDER"];
                table_or_cells(&header, self.0.iter().map(row).collect())
            }
        }
    }
}

fn row(disk: &Disk) -> (Style, Vec<String>) {
    let dash = || "-".to_owned();
    let paths = disk.device.lower_devices();
    let paths: Vec<_> = paths.iter().map(BlockDevice::name).collect();
    let mut cells = vec![
        disk.device.node(),
        disk.device.wwn().unwrap_or_else(dash),
        if paths.is_empty() {
            dash()
        } else {
            paths.join(" ")
        },
    ];
    let state = match &disk.state {
        Ok(state) => state,
        Err(error) => {
            cells.push(error.clone());
            return (INVALID, cells);
        }
    };
    cells.push(distinct(&state.keys));
    let Some(ReservationDescriptor { key, scope_type }) = state.reservation else {
        cells.extend([dash(), dash()]);
        return (PLAIN, cells);
    };
    let kind = scope_type.reservation_type();
    cells.push(kind.map_or_else(dash, |kind| labels::short_type(kind).to_owned()));
    cells.push(match is_all_registrants(scope_type) {
        true => "all".to_owned(),
        false => key.to_string(),
    });
    (GOOD, cells)
}

/// Returns the keys without repetitions, each with its number: a host registers each of its paths.
fn distinct(keys: &[ReservationKey]) -> String {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let groups = sorted.chunk_by(|one, other| one == other);
    let texts: Vec<_> = groups
        .filter_map(|group| match group {
            [key] => Some(key.to_string()),
            [key, ..] => Some(format!("{}x{key}", group.len())),
            [] => None,
        })
        .collect();
    match texts.is_empty() {
        true => "-".to_owned(),
        false => texts.join(" "),
    }
}

impl ToJson for DiskList {
    fn to_json(&self) -> Json {
        object! { "devices": array(&self.0) }
    }
}

impl ToJson for Disk {
    fn to_json(&self) -> Json {
        let state = self.state.as_ref().ok();
        let paths = self.device.lower_devices();
        let keys = state.map(|state| state.keys.iter().copied().collect::<Json>());
        let reservation = state.and_then(|state| state.reservation.as_ref());
        object! {
            "device": self.device.node(),
            "wwn": self.device.wwn(),
            "paths": paths.iter().map(BlockDevice::name).collect::<Json>(),
            "keys": keys,
            "reservation": reservation.map(ToJson::to_json),
            "error": self.state.as_ref().err().map(|text| json::message(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_counted() {
        let keys =
            |keys: &[u64]| distinct(&keys.iter().copied().map(Into::into).collect::<Vec<_>>());
        assert_eq!(keys(&[]), "-");
        assert_eq!(keys(&[0xb, 0xa, 0xb]), "0xa 2x0xb");
    }
}
