// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text of the subcommands for a device.

use anstyle::Style;
use scsi_pr::{
    Capabilities, FullStatus, FullStatusDescriptor, Keys, ReservationData, ReservationDescriptor,
    ReservationType, ScopeType, Truncatable,
};

use super::{ToText, name_value_table};
use crate::commands::change::{Change, ReleaseResult};
use crate::commands::status::DeviceStatus;
use crate::console::{BOLD, GOOD, INVALID, PLAIN, REJECTED, escape_path, table};
use crate::helper::DeviceResult;
use crate::labels;

impl<T: ToText> ToText for DeviceResult<T> {
    fn to_text(&self) -> String {
        let device = escape_path(&self.device);
        format!("{BOLD}{device}{BOLD:#}: {}", self.value.to_text())
    }
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

fn count(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

fn truncation(missing: usize) -> String {
    match missing {
        0 => String::new(),
        missing => format!(
            "{INVALID}Incomplete:{INVALID:#} the last {missing} bytes of the list are missing, \
             because a response is limited to 8192 bytes or the device truncated it.\n"
        ),
    }
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

fn is_all_registrants(scope_type: ScopeType) -> bool {
    let reservation_type = scope_type.reservation_type();
    reservation_type.is_some_and(ReservationType::is_all_registrants)
}

/// Returns the standard's name and the short name of a type.
fn type_name(scope_type: ScopeType) -> String {
    match scope_type.reservation_type() {
        Some(reservation_type) => {
            let short = labels::short_type(reservation_type);
            format!("{reservation_type} ({short})")
        }
        None => format!("{:x}h (obsolete or reserved)", scope_type.type_code()),
    }
}

fn scope(scope_type: ScopeType) -> String {
    match scope_type.scope() {
        Some(scope) => scope.to_string(),
        None => format!("{:x}h (reserved)", scope_type.scope_code()),
    }
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

impl ToText for DeviceStatus {
    fn to_text(&self) -> String {
        let registrations = registrations(&self.registrations);
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
        let line = |label: &str, names: Vec<&str>| match names.is_empty() {
            true => String::new(),
            false => format!("{REJECTED}{label}:{REJECTED:#} {}\n", names.join(" ")),
        };
        let unregistered = line("Unregistered paths", names(Some(false)));
        let unknown = line("Paths that may be unregistered", names(None));
        format!("{registrations}{unregistered}{unknown}")
    }
}

fn registrations(status: &Truncatable<FullStatus>) -> String {
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
        false => table(&header, descriptors.iter().map(registration)),
    };
    let truncation = truncation(status.missing);
    format!("generation {generation}, {count}{reserved}\n{rows}{truncation}")
}

fn registration(descriptor: &FullStatusDescriptor) -> (Style, Vec<String>) {
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
    let transport_id = match &descriptor.transport_id {
        Ok(id) => id.to_string(),
        Err(malformed) => malformed.to_string(),
    };
    let key = format!(" {}", descriptor.key);
    let style = if descriptor.holder { GOOD } else { PLAIN };
    (
        style,
        vec![key, holder, type_name, scope, port, transport_id],
    )
}

impl ToText for Change {
    fn to_text(&self) -> String {
        match self {
            Change::Registered { key, .. } => format!("registered with key {key}"),
            Change::Unregistered(key) => format!("unregistered, key {key} was removed"),
            Change::Reserved(key, kind) => format!("reserved with key {key}: {kind}"),
            Change::Released(result) => released(*result),
            Change::Cleared => "cleared: no reservation and no registrations".to_owned(),
            Change::Preempted { victim, .. } if victim.is_zero() => {
                "registrations of all other registrants removed".to_owned()
            }
            // The holder keeps its registration.
            Change::Preempted { sender, victim, .. } if sender == victim => {
                format!("preempted own key {victim}")
            }
            Change::Preempted { victim, .. } => {
                format!("registrations with key {victim} removed")
            }
            Change::Moved { key, to } => format!("moved to {to}, registered with key {key}"),
        }
    }
}

const RELEASE_IGNORED: &str = "the device accepts RELEASE from a non-holder and ignores it";

fn released(result: ReleaseResult) -> String {
    match result {
        ReleaseResult::NotReserved => "nothing to release: there is no reservation".to_owned(),
        ReleaseResult::Released(key, scope_type) => {
            format!("released with key {key}: {scope_type}")
        }
        ReleaseResult::ReleasedThenReserved(key, now) => {
            format!("released with key {key}; now {}", held(now))
        }
        ReleaseResult::Unchanged(now) => {
            format!("not released: still {} ({RELEASE_IGNORED})", held(now))
        }
        ReleaseResult::NoReservationNow => {
            "RELEASE ended with GOOD, and there is no reservation now".to_owned()
        }
        ReleaseResult::ReservedNow(now) => format!(
            "RELEASE ended with GOOD, and the device is {} ({RELEASE_IGNORED})",
            held(now)
        ),
        ReleaseResult::Unverified => {
            format!(
                "RELEASE ended with GOOD, but the reservation could not be read afterwards \
                ({RELEASE_IGNORED})"
            )
        }
    }
}

/// Returns the holder and the type of a reservation.
fn held(reservation: ReservationDescriptor) -> String {
    let ReservationDescriptor { key, scope_type } = reservation;
    match is_all_registrants(scope_type) {
        true => format!("held by all registrants, {scope_type}"),
        false => format!("held with key {key}, {scope_type}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi_path::PathStatus;

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
        let without_paths = DeviceStatus {
            registrations: registrations.clone(),
            paths: None,
        };
        let status = DeviceStatus {
            registrations,
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
