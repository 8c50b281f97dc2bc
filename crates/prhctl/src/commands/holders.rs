// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl holders`: the registrants of disks and the holder of the reservation, with the names of
//! the virtual machines of this host.

use std::path::{Path, PathBuf};

use anstyle::Style;
use clap::Args;
use scsi_pr::{FullStatus, FullStatusDescriptor, ReservationKey, Truncatable};

use super::{Subcommand, status};
use crate::block_device::BlockDevice;
use crate::completion;
use crate::console::{GOOD, PLAIN, table};
use crate::context::{Context, HelperArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::known_disks::{KnownDisk, distinct, known_disks};
use crate::output::json::{Json, ToJson, array, object, scope_type};
use crate::output::text::{ToText, count, truncation, type_name};
use crate::scsi_path::Owner;
use crate::state::HelperStates;

pub(crate) const HELP: &str = query_help!(
    "\
Show which virtual machines are registered with a disk, and which one holds the
reservation (PERSISTENT RESERVE IN, READ FULL STATUS).

The keys come from the disk, and the names from the states of the helpers: a
machine of this host has a name if it registered its key through a helper that
runs. Registrations of other hosts have none. Without DISK, all disks that
machines of this host use through helpers are shown ('prhctl disks'). For a
multipath map, the paths that a helper knows to be unregistered follow.

-k selects the helper that queries the disks; the first one that runs by
default. The names are those of all helpers. Only root and the helper's user
can read the state of a helper."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl holders
  prhctl holders /dev/sdb
  prhctl --json holders /dev/sdb | jq '.registrants[] | select(.is_holder)'

Exit status 0, or one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Show registrants and reservation of disks with machine names",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct HoldersArgs {
    /// Paths of the disks; all that the helpers know by default
    #[arg(value_name = "DISK", add = completion::device())]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    helper: HelperArgs,
}

impl Subcommand for HoldersArgs {
    fn run(&self, context: &Context) -> Exit {
        let states = match context.all_states(&self.helper) {
            Ok(states) => states,
            Err(error) if self.paths.is_empty() => return context.print_failure(&error.into()),
            // The registrations of a named disk can be shown without names.
            Err(error) => {
                context.print_error(&error);
                HelperStates(Vec::new())
            }
        };
        let disks = known_disks(&states);
        let paths = match self.paths.is_empty() {
            true => disks.iter().filter_map(KnownDisk::path).collect(),
            false => self.paths.clone(),
        };
        if paths.is_empty() {
            context.console.note("the helpers know no disk; name one");
        }
        context.query_paths_through_any(&paths, &self.helper, |helper| query(helper, &disks))
    }
}

/// The registrants of a disk.
#[derive(Debug)]
struct Holders {
    status: Truncatable<FullStatus>,
    registrants: Vec<Registrant>,
    /// Names of the paths of a map that are not registered, as far as the helpers know.
    unregistered_paths: Vec<String>,
}

/// Registrations with the same key and the same host.
#[derive(Debug, PartialEq, Eq)]
struct Registrant {
    key: ReservationKey,
    is_holder: bool,
    /// Names of the clients of this host that registered the key.
    names: Vec<String>,
    host: Host,
    /// Number of registrations: one for each pair of ports.
    registrations: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    This,
    Other,
    Unknown,
}

fn query(helper: &mut HelperConnection<'_>, disks: &[KnownDisk<'_>]) -> Result<Holders, Error> {
    let status = status::query_registrations(helper)?;
    let owners = helper.owners(&status.value.descriptors);
    let disk = find(helper.path(), disks);
    let registrants = registrants(&status.value.descriptors, &owners, disk);
    let unregistered_paths = disk.map_or_else(Vec::new, KnownDisk::unregistered_paths);
    Ok(Holders {
        status,
        registrants,
        unregistered_paths: unregistered_paths.into_iter().map(str::to_owned).collect(),
    })
}

/// Returns the disk at a path.
pub(super) fn find<'a, 'b>(path: &Path, disks: &'b [KnownDisk<'a>]) -> Option<&'b KnownDisk<'a>> {
    let wwn = BlockDevice::from_path(path).and_then(|device| device.wwn());
    let is_same = |disk: &&KnownDisk<'_>| {
        wwn.is_some() && disk.wwn == wwn.as_deref()
            || path.to_str().is_some_and(|path| disk.is_called(path))
    };
    disks.iter().find(is_same)
}

fn registrants(
    descriptors: &[FullStatusDescriptor],
    owners: &[Owner],
    disk: Option<&KnownDisk<'_>>,
) -> Vec<Registrant> {
    let mut registrants: Vec<Registrant> = Vec::new();
    for (descriptor, owner) in descriptors.iter().zip(owners) {
        let host = match owner {
            Owner::ThisPath | Owner::OtherPath | Owner::EarlierSession => Host::This,
            Owner::Other => Host::Other,
            Owner::Unknown => Host::Unknown,
        };
        let key = descriptor.key;
        let same = registrants
            .iter_mut()
            .find(|one| one.key == key && one.host == host);
        match same {
            Some(same) => {
                same.is_holder |= descriptor.holder;
                same.registrations += 1;
            }
            None => registrants.push(Registrant {
                key,
                is_holder: descriptor.holder,
                names: disk.map_or_else(Vec::new, |disk| names(disk, key, host)),
                host,
                registrations: 1,
            }),
        }
    }
    registrants
}

/// Returns the clients that registered a key. A machine of another host can have the same key; the
/// ports of a soft LUN belong to this host.
fn names(disk: &KnownDisk<'_>, key: ReservationKey, host: Host) -> Vec<String> {
    if host == Host::Other && !disk.is_soft_lun() {
        return Vec::new();
    }
    let registrations = disk.registrations().into_iter();
    let of_key = registrations.filter(|one| one.key == key.to_string());
    distinct(of_key.map(|one| one.client.clone()))
}

impl ToText for Holders {
    fn to_text(&self) -> String {
        let count = count(self.registrants.len(), "registrant");
        let descriptors = &self.status.value.descriptors;
        let reserved = match descriptors.iter().find(|one| one.holder) {
            Some(holder) => format!("reserved: {}", type_name(holder.scope_type)),
            None if self.status.is_complete() => "no reservation".to_owned(),
            // The missing end of the list may contain the holder.
            None => "reservation unknown".to_owned(),
        };
        let header = [" NAME", "KEY", "HOLDER", "HOST", "REGISTRATIONS"];
        let rows = match self.registrants.is_empty() {
            true => String::new(),
            false => table(&header, self.registrants.iter().map(row)),
        };
        let paths = status::path_line("Unregistered paths", &self.unregistered_paths);
        format!(
            "{count}, {reserved}\n{rows}{}{paths}",
            truncation(self.status.missing)
        )
    }
}

fn row(registrant: &Registrant) -> (Style, Vec<String>) {
    let name = match registrant.names.as_slice() {
        [] => "-".to_owned(),
        names => names.join(", "),
    };
    let cells = vec![
        format!(" {name}"),
        registrant.key.to_string(),
        if registrant.is_holder { "yes" } else { "-" }.to_owned(),
        match registrant.host {
            Host::This => "this",
            Host::Other => "other",
            Host::Unknown => "-",
        }
        .to_owned(),
        registrant.registrations.to_string(),
    ];
    let style = if registrant.is_holder { GOOD } else { PLAIN };
    (style, cells)
}

impl ToJson for Holders {
    fn to_json(&self) -> Json {
        let FullStatus {
            generation,
            descriptors,
        } = &self.status.value;
        let holder = descriptors.iter().find(|one| one.holder);
        let reservation = holder.map(|holder| Json::Object(scope_type(holder.scope_type).into()));
        object! {
            "generation": generation.get(),
            "registrants": array(&self.registrants),
            "reservation": reservation,
            "unregistered_paths": Json::from_iter(&self.unregistered_paths),
            "missing_bytes": self.status.missing,
        }
    }
}

impl ToJson for Registrant {
    fn to_json(&self) -> Json {
        object! {
            "names": Json::from_iter(&self.names),
            "key": self.key,
            "is_holder": self.is_holder,
            "host": match self.host {
                Host::This => Some("this"),
                Host::Other => Some("other"),
                Host::Unknown => None,
            },
            "registrations": self.registrations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{check_members, disk, document, plain_text, registration, states};
    use scsi_pr::ScopeType;

    fn holders() -> Holders {
        let descriptor = |key: u64, holder| FullStatusDescriptor {
            key: key.into(),
            all_tg_pt: false,
            holder,
            scope_type: ScopeType(if holder { 5 } else { 0 }),
            relative_target_port: 1.into(),
            transport_id: Ok("sas,5001405000000001".parse().unwrap()),
        };
        let descriptors = vec![
            descriptor(0xa, true),
            descriptor(0xa, false),
            descriptor(0xa, false),
            descriptor(0xb, false),
        ];
        let mut state = document();
        state.disks = vec![disk("8:0", Some("naa.1"), "sda")];
        state.disks[0].registrations = vec![registration("0xa", "node1")];
        let states = states([state]);
        let disks = known_disks(&states);
        let owners = [
            Owner::ThisPath,
            Owner::OtherPath,
            Owner::Other,
            Owner::Unknown,
        ];
        let value = FullStatus {
            descriptors,
            ..FullStatus::default()
        };
        Holders {
            registrants: registrants(&value.descriptors, &owners, disks.first()),
            unregistered_paths: vec!["sdb".to_owned()],
            status: Truncatable { value, missing: 0 },
        }
    }

    #[test]
    fn registrants_of_this_host_have_names() {
        let expected = "\
3 registrants, reserved: Write Exclusive - Registrants Only (we-ro)
  NAME   KEY  HOLDER  HOST   REGISTRATIONS
  node1  0xa  yes     this   2
  -      0xa  -       other  1
  -      0xb  -       -      1
Unregistered paths: sdb
";
        assert_eq!(plain_text(&holders()), expected);
    }

    #[test]
    fn json_members_are_documented() {
        check_members(&holders());
    }

    #[test]
    fn disk_is_found_by_its_path() {
        let mut state = document();
        state.disks = vec![disk("8:0", None, "sda"), disk("253:1", None, "dm-1")];
        state.disks[1].alias = Some("mpatha".to_owned());
        let states = states([state]);
        let disks = known_disks(&states);
        let paths: Vec<_> = disks.iter().filter_map(KnownDisk::path).collect();
        assert_eq!(
            paths,
            [Path::new("/dev/sda"), Path::new("/dev/mapper/mpatha")]
        );
        assert_eq!(find(&paths[0], &disks).unwrap().nodes(), ["sda"]);
        assert!(find(Path::new("/dev/sdb"), &disks).is_none());
    }
}
