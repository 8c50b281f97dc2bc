// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl status`: READ FULL STATUS.

use anstyle::Style;
use clap::Args;
use scsi_pr::{FullStatus, FullStatusDescriptor, InServiceAction, Truncatable};

use super::Subcommand;
use crate::console::{GOOD, PLAIN, REJECTED, table};
use crate::context::{Context, DeviceArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;
use crate::output::json::{Json, ToJson, array, object, scope_type};
use crate::output::text::{ToText, count, scope, truncation, type_name};
use crate::scsi_path::{Owner, PathStatus, path_statuses};

pub(crate) const HELP: &str = query_help!(
    "\
Show all registrations and the holder of the reservation (PERSISTENT RESERVE
IN, READ FULL STATUS).

Prints one line for each registration: the key, the initiator port's
TransportID, the relative target port (or all), and, for a holder, the type and
scope of the reservation. Some devices do not support this command.
'prhctl keys' and 'prhctl reservation' print less, but every device with
persistent reservations supports them.

The registrations of this host are marked, also those of earlier iSCSI
sessions. prhctl finds initiator port (FC, iSCSI, SAS) and target port of a
path in sysfs. For a multipath map, the paths without a registration follow.
Where the ports do not decide, the path may be unregistered."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl status /dev/sdb
  prhctl --json status /dev/sdb | jq '.registrations[] | select(.is_holder)'

Exit status 0, or one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Show all registrations and the holder of the reservation",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

impl Subcommand for StatusArgs {
    fn run(&self, context: &Context) -> Exit {
        context.query(&self.device, query)
    }
}

/// The registrations of a device, and the paths of a multipath map.
#[derive(Debug)]
pub(crate) struct DeviceStatus {
    pub(crate) registrations: Truncatable<FullStatus>,
    /// The owner of each registration.
    owners: Vec<Owner>,
    /// `None` if the device is not a multipath map.
    pub(crate) paths: Option<Vec<PathStatus>>,
}

/// Queries the registrations.
pub(super) fn query_registrations(
    helper: &mut HelperConnection<'_>,
) -> Result<Truncatable<FullStatus>, Error> {
    helper.query_list(InServiceAction::ReadFullStatus, FullStatus::decode)
}

/// Queries the registrations, and the paths of a map.
fn query(helper: &mut HelperConnection<'_>) -> Result<DeviceStatus, Error> {
    let registrations = query_registrations(helper)?;
    let map = helper.multipath_map();
    Ok(DeviceStatus {
        owners: helper.owners(&registrations.value.descriptors),
        paths: map.map(|map| path_statuses(map, &registrations)),
        registrations,
    })
}

impl ToText for DeviceStatus {
    fn to_text(&self) -> String {
        let registrations = registrations(&self.registrations, &self.owners);
        // Without any registration, no path has one.
        let paths = match self.registrations.value.descriptors.as_slice() {
            [] => &[],
            _ => self.paths.as_deref().unwrap_or_default(),
        };
        let names = |is_registered: Option<bool>| {
            let paths = paths.iter();
            let paths = paths.filter(|path| path.is_registered == is_registered);
            paths.map(|path| path.name.as_str()).collect::<Vec<_>>()
        };
        let unregistered = path_line("Unregistered paths", &names(Some(false)));
        let unknown = path_line("Paths that may be unregistered", &names(None));
        format!("{registrations}{unregistered}{unknown}")
    }
}

/// Returns a line with the names of paths, if there are some.
pub(super) fn path_line(label: &str, names: &[impl AsRef<str>]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    format!("{REJECTED}{label}:{REJECTED:#} {}\n", names.join(" "))
}

fn registrations(status: &Truncatable<FullStatus>, owners: &[Owner]) -> String {
    let FullStatus {
        generation,
        descriptors,
    } = &status.value;
    let count = count(descriptors.len(), "registration");
    let reserved = match descriptors.iter().find(|descriptor| descriptor.holder) {
        Some(holder) => format!(", reserved: {}", type_name(holder.scope_type)),
        None if status.is_complete() => ", no reservation".to_owned(),
        // The missing end of the list may contain the holder.
        None => String::new(),
    };
    let header = [" KEY", "HOLDER", "TYPE", "SCOPE", "PORT", "TRANSPORTID"];
    let rows = match descriptors.is_empty() {
        true => String::new(),
        false => {
            let rows = descriptors.iter().zip(owners);
            table(&header, rows.map(|(one, owner)| registration(one, *owner)))
        }
    };
    let truncation = truncation(status.missing);
    format!("generation {generation}, {count}{reserved}\n{rows}{truncation}")
}

fn registration(descriptor: &FullStatusDescriptor, owner: Owner) -> (Style, Vec<String>) {
    let scope_type = descriptor.scope_type;
    let [holder, type_name, scope] = match (descriptor.holder, scope_type.reservation_type()) {
        (false, _) => ["-", "-", "-"].map(str::to_owned),
        (true, Some(kind)) => [
            "yes".to_owned(),
            labels::short_type(kind).to_owned(),
            scope(scope_type),
        ],
        (true, None) => [
            "yes".to_owned(),
            format!("{:x}h", scope_type.type_code()),
            scope(scope_type),
        ],
    };
    let port = match descriptor.all_tg_pt {
        true => "all".to_owned(),
        false => descriptor.relative_target_port.to_string(),
    };
    let transport_id = initiator_port(descriptor, owner);
    let key = format!(" {}", descriptor.key);
    let style = if descriptor.holder { GOOD } else { PLAIN };
    (
        style,
        vec![key, holder, type_name, scope, port, transport_id],
    )
}

/// Returns the initiator port of a registration.
pub(super) fn initiator_port(descriptor: &FullStatusDescriptor, owner: Owner) -> String {
    let transport_id = match &descriptor.transport_id {
        Ok(id) => id.to_string(),
        Err(malformed) => malformed.to_string(),
    };
    match owner {
        Owner::ThisPath => format!("{transport_id} (this host)"),
        Owner::OtherPath => format!("{transport_id} (this host, another path)"),
        Owner::EarlierSession => format!("{transport_id} (this host, earlier session)"),
        Owner::Other | Owner::Unknown => transport_id,
    }
}

impl ToJson for DeviceStatus {
    fn to_json(&self) -> Json {
        let Truncatable { value, missing } = &self.registrations;
        let registrations = value.descriptors.iter().zip(&self.owners);
        let registrations =
            registrations.map(|(one, owner)| Json::Object(registration_json(one, *owner)));
        object! {
            "generation": value.generation.get(),
            "registrations": registrations.collect::<Json>(),
            "missing_bytes": *missing,
            "paths": self.paths.as_ref().map(array),
        }
    }
}

impl ToJson for PathStatus {
    fn to_json(&self) -> Json {
        object! { "name": &self.name, "is_registered": self.is_registered }
    }
}

/// Returns the members of a registration.
pub(super) fn registration_json(
    descriptor: &FullStatusDescriptor,
    owner: Owner,
) -> Vec<(&'static str, Json)> {
    let held = descriptor
        .holder
        .then(|| Json::Object(scope_type(descriptor.scope_type).into()));
    let port = descriptor.relative_target_port.get();
    let transport_id = match &descriptor.transport_id {
        Ok(id) => id.to_string(),
        Err(malformed) => malformed.to_string(),
    };
    let owner = match owner {
        Owner::ThisPath => Some("this-path"),
        Owner::OtherPath => Some("other-path"),
        Owner::EarlierSession => Some("earlier-session"),
        Owner::Other => Some("other-host"),
        Owner::Unknown => None,
    };
    vec![
        ("key", descriptor.key.into()),
        ("is_holder", descriptor.holder.into()),
        ("reservation", held.into()),
        ("all_target_ports", descriptor.all_tg_pt.into()),
        (
            "relative_target_port",
            (!descriptor.all_tg_pt).then_some(port).into(),
        ),
        ("transport_id", transport_id.into()),
        ("owner", owner.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use scsi_pr::ScopeType;

    /// Returns the lines about paths with these registrations.
    fn path_lines(paths: &[(&str, Option<bool>)], registrations: usize) -> String {
        let descriptor = FullStatusDescriptor {
            key: 1.into(),
            all_tg_pt: false,
            holder: false,
            scope_type: ScopeType(0),
            relative_target_port: 1.into(),
            transport_id: Ok("sas,5001405000000001".parse().unwrap()),
        };
        let value = FullStatus {
            descriptors: vec![descriptor; registrations],
            ..FullStatus::default()
        };
        let paths = paths.iter().map(|(name, is_registered)| PathStatus {
            name: (*name).to_owned(),
            is_registered: *is_registered,
        });
        let registrations = Truncatable { value, missing: 0 };
        let owners = vec![Owner::Unknown; registrations.value.descriptors.len()];
        let without_paths = DeviceStatus {
            registrations: registrations.clone(),
            owners: owners.clone(),
            paths: None,
        };
        let status = DeviceStatus {
            registrations,
            owners,
            paths: Some(paths.collect()),
        };
        let text = anstream::adapter::strip_str(&status.to_text()).to_string();
        let start = anstream::adapter::strip_str(&without_paths.to_text()).to_string();
        text.strip_prefix(&start).unwrap().to_owned()
    }

    #[test]
    fn unregistered_paths_are_named() {
        let paths = [
            ("sda", Some(true)),
            ("sdb", Some(false)),
            ("sdc", None),
            ("sdd", Some(false)),
        ];
        let expected = "Unregistered paths: sdb sdd\nPaths that may be unregistered: sdc\n";
        assert_eq!(path_lines(&paths, 1), expected);
        assert_eq!(path_lines(&paths[..1], 1), "");
    }

    #[test]
    fn paths_of_a_unit_without_registrations_are_not_named() {
        let paths = [("sda", Some(false)), ("sdb", Some(false))];
        assert_eq!(path_lines(&paths, 0), "");
    }
}
