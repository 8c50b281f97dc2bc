// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl disks`: the disks that clients of the helpers use, with registrations and reservations.

use anstyle::Style;
use clap::Args;
use helper_state::{Disk, Path, PathRegistration, Registration, Reservation};

use super::Subcommand;
use crate::console::{GOOD, PLAIN, REJECTED, escape_control, table_or_cells};
use crate::context::{Context, HelperArgs};
use crate::exit::Exit;
use crate::known_disks::{KnownDisk, known_disks, short_type};
use crate::output::json::{Json, ToJson, array, object};
use crate::output::text::ToText;
use crate::running_helpers::HelperProcess;
use crate::state::HelperStates;

pub(crate) const HELP: &str = "\
List the disks that virtual machines have sent reservation commands to through
the helpers of this host, with the keys and the reservation of these machines.

These are the changes that the helpers have seen. Keys of other hosts are
missing, and keys that other hosts removed may still be listed: 'prhctl
holders' asks the disk.

A warning names the virtual machines that are registered with the same disk.
They share a port of this host, so the disk cannot protect it from one of them
for the other. Another warning names the paths of a multipath map that are not
registered although the machine is, because writes through them fail.

Sends nothing to a disk, but the helper checks paths that may not be registered
if the last check is 10 seconds ago. Only root and the helper's user can read
the state of a helper. QEMU's own helper has none.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl disks
  prhctl --json disks | jq -r '.disks[] | select(.reservation) | .wwn'

Exit status 0, or 1 if the state of no helper can be read.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "List the disks that virtual machines use through the helpers",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct DisksArgs {
    #[command(flatten)]
    helper: HelperArgs,
}

impl Subcommand for DisksArgs {
    fn run(&self, context: &Context) -> Exit {
        context.finish(context.states(&self.helper).map(DiskList))
    }
}

/// The disks of helpers.
#[derive(Debug)]
struct DiskList(HelperStates);

impl ToText for DiskList {
    fn to_text(&self) -> String {
        let disks = known_disks(&self.0);
        if disks.is_empty() {
            return "no disks\n".to_owned();
        }
        let header = ["WWN", "NODES", "KIND", "TRANSPORT", "KEYS", "RESERVATION"];
        let table = table_or_cells(&header, disks.iter().map(row).collect());
        let warnings = disks
            .iter()
            .flat_map(|disk| [sharing_warning(disk), path_warning(disk)])
            .flatten();
        table + &warnings.collect::<String>()
    }
}

fn row(disk: &KnownDisk<'_>) -> (Style, Vec<String>) {
    let registrations = disk.registrations();
    let registrations = registrations.iter().map(|one| match one.is_connected {
        true => format!("{} {}", one.key, one.client),
        false => format!("{} {} (disconnected)", one.key, one.client),
    });
    let registrations: Vec<_> = registrations.collect();
    let reservation = disk.reservation().map(|reservation| {
        let Reservation {
            key,
            r#type,
            client,
            ..
        } = reservation;
        format!("{} {key} {client}", short_type(r#type))
    });
    let or_dash = |text: String| match text.is_empty() {
        true => "-".to_owned(),
        false => text,
    };
    let is_faulty = !disk.sharing_clients().is_empty() || !disk.unregistered_paths().is_empty();
    let style = match (is_faulty, &reservation) {
        (true, _) => REJECTED,
        (false, Some(_)) => GOOD,
        (false, None) => PLAIN,
    };
    let cells = vec![
        disk.wwn.unwrap_or("-").to_owned(),
        disk.nodes().join(" "),
        disk.kinds().join(", "),
        or_dash(disk.transports().join(" ")),
        or_dash(registrations.join(", ")),
        or_dash(reservation.unwrap_or_default()),
    ];
    (style, cells)
}

/// Returns a line if several clients are registered.
fn sharing_warning(disk: &KnownDisk<'_>) -> Option<String> {
    let clients = disk.sharing_clients();
    if clients.is_empty() {
        return None;
    }
    Some(warning(&format!(
        "{} are registered with {} through this host. The disk sees them as one initiator, so a \
         reservation does not protect it from any of them. Run them on different hosts.",
        clients.join(" and "),
        name(disk)
    )))
}

/// Returns a line if paths are not registered.
fn path_warning(disk: &KnownDisk<'_>) -> Option<String> {
    let paths = disk.unregistered_paths();
    if paths.is_empty() {
        return None;
    }
    Some(warning(&format!(
        "Paths of {} that are not registered: {}. Writes through them fail while the disk is \
         reserved. multipathd registers a path that returns ('multipathd show paths'), and the \
         next REGISTER of the machine each path that is active.",
        name(disk),
        paths.join(" ")
    )))
}

fn name(disk: &KnownDisk<'_>) -> String {
    disk.wwn
        .map_or_else(|| disk.nodes().join(" "), str::to_owned)
}

fn warning(text: &str) -> String {
    let text = escape_control(text);
    format!("{REJECTED}Warning:{REJECTED:#} {text}\n")
}

impl ToJson for DiskList {
    fn to_json(&self) -> Json {
        let disks = known_disks(&self.0);
        object! { "disks": array(&disks), "helpers": self.0.to_json() }
    }
}

impl ToJson for KnownDisk<'_> {
    fn to_json(&self) -> Json {
        let devices = self.devices.iter();
        object! {
            "wwn": self.wwn,
            "nodes": self.nodes().into_iter().collect::<Json>(),
            "registrations": array(self.registrations()),
            "reservation": self.reservation().map(ToJson::to_json),
            "sharing_clients": self.sharing_clients().into_iter().collect::<Json>(),
            "devices": devices.map(|(helper, disk)| device_json(helper, disk)).collect::<Json>(),
        }
    }
}

fn device_json(helper: &HelperProcess, disk: &Disk) -> Json {
    object! {
        "helper": helper.pid,
        "device": &disk.device,
        "nodes": Json::from_iter(&disk.nodes),
        "kind": &disk.kind,
        "alias": disk.alias.as_ref(),
        "transport": disk.transport.as_ref(),
        "paths": array(&disk.paths),
    }
}

impl ToJson for Path {
    fn to_json(&self) -> Json {
        object! {
            "node": &self.node,
            "device": &self.device,
            "registration": match self.registration {
                PathRegistration::Registered => "registered",
                PathRegistration::NotRegistered => "not-registered",
                PathRegistration::Unknown => "unknown",
            },
            "since_us": self.since_us,
        }
    }
}

impl ToJson for Registration {
    fn to_json(&self) -> Json {
        object! {
            "key": &self.key,
            "client": &self.client,
            "is_connected": self.is_connected,
            "time_us": self.time_us,
        }
    }
}

impl ToJson for Reservation {
    fn to_json(&self) -> Json {
        object! {
            "key": &self.key,
            "type": &self.r#type,
            "client": &self.client,
            "time_us": self.time_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{
        check_members, disk, document, paths, plain_text, registration, reservation, states,
    };

    #[test]
    fn disks_are_listed_with_keys_and_reservation() {
        let mut state = document();
        let mut map = disk("253:3", Some("naa.6001405"), "dm-3");
        map.kind = "multipath".to_owned();
        map.alias = Some("mpatha".to_owned());
        map.transport = Some("iscsi".to_owned());
        map.registrations = vec![registration("0xa", "node1"), registration("0xb", "node1")];
        map.registrations[1].is_connected = false;
        map.reservation = Some(reservation("0xa", "node1"));
        state.disks = vec![map, disk("8:0", None, "sda")];
        let expected = " WWN          NODES  KIND              TRANSPORT  \
            KEYS                                 RESERVATION
 naa.6001405  dm-3   multipath mpatha  iscsi      \
            0xa node1, 0xb node1 (disconnected)  we-ro 0xa node1
 -            sda    disk              -          \
            -                                    -
";
        let list = DiskList(states([state]));
        assert_eq!(plain_text(&list), expected);
        check_members(&list);
    }

    #[test]
    fn clients_that_share_a_disk_are_named() {
        let mut state = document();
        let mut shared = disk("8:0", Some("naa.6001405"), "sda");
        shared.registrations = vec![registration("0xa", "node1"), registration("0xb", "node2")];
        state.disks = vec![shared];
        let text = plain_text(&DiskList(states([state])));
        let warning =
            "\nWarning: node1 and node2 are registered with naa.6001405 through this host.";
        assert!(text.contains(warning), "{text}");
    }

    #[test]
    fn unregistered_paths_are_named() {
        let mut state = document();
        let mut map = disk("253:3", Some("naa.6001405"), "dm-3");
        map.registrations = vec![registration("0xa", "node1")];
        map.paths = paths(&[
            ("sda", PathRegistration::Registered),
            ("sdb", PathRegistration::NotRegistered),
            ("sdc", PathRegistration::Unknown),
        ]);
        state.disks = vec![map];
        let list = DiskList(states([state]));
        let text = plain_text(&list);
        let warning = "\nWarning: Paths of naa.6001405 that are not registered: sdb. Writes";
        assert!(text.contains(warning), "{text}");
        check_members(&list);
    }

    #[test]
    fn helper_without_disks_is_no_error() {
        assert_eq!(plain_text(&DiskList(states([document()]))), "no disks\n");
    }
}
