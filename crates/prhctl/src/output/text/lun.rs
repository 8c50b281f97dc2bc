// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text of `prhctl lun`.

use anstyle::Style;
use soft_lun::SupportedFeatures;

use super::{ToText, held_by, name_value_table};
use crate::commands::lun::{LunEntry, LunStatus, PortStatus};
use crate::console::{BOLD, GOOD, INVALID, PLAIN, escape_path, table};
use crate::labels;

impl ToText for LunStatus {
    fn to_text(&self) -> String {
        let path = escape_path(&self.path);
        let persistence = match self.aptpl {
            true => "persist through a power loss",
            false => "do not persist through a power loss",
        };
        let properties = name_value_table([
            ("reservation", reservation(self)),
            ("generation", self.generation.to_string()),
            ("registrations", persistence.to_owned()),
            ("supports", supported(self.supported)),
        ]);
        let header = [
            " PORT",
            "KEY",
            "HOLDER",
            "ACCESS",
            "UNIT ATTENTIONS",
            "TARGET PORT",
            "INITIATOR PORT",
        ];
        let ports = table(&header, self.ports.iter().map(port));
        let identity = self.identity;
        format!("{BOLD}{path}{BOLD:#}: soft LUN {identity}\n{properties}\n{ports}")
    }
}

fn port(port: &PortStatus) -> (Style, Vec<String>) {
    let dash = || "-".to_owned();
    let unit_attentions = port.unit_attentions.iter().copied();
    let unit_attentions: Vec<_> = unit_attentions.map(labels::unit_attention).collect();
    let access = match (port.may_read, port.may_write) {
        (_, true) => "read, write",
        (true, false) => "read",
        (false, false) => "none",
    };
    let cells = vec![
        format!(" {}", port.name),
        port.key.map_or_else(dash, |key| key.to_string()),
        if port.is_holder { "yes" } else { "-" }.to_owned(),
        access.to_owned(),
        match unit_attentions.is_empty() {
            true => dash(),
            false => unit_attentions.join(", "),
        },
        port.nexus.target_port.to_string(),
        port.nexus.initiator.to_string(),
    ];
    (if port.is_holder { GOOD } else { PLAIN }, cells)
}

fn reservation(lun: &LunStatus) -> String {
    match &lun.reservation {
        None => "none".to_owned(),
        Some((reservation_type, holder)) => held_by(*reservation_type, holder.as_deref()),
    }
}

fn supported(supported: SupportedFeatures) -> String {
    let features = [
        (supported.persist_through_power_loss, "APTPL"),
        (supported.specify_initiator_ports, "SPEC_I_PT"),
        (supported.all_target_ports, "ALL_TG_PT"),
    ];
    let features = features.into_iter().filter(|(has, _)| *has);
    let types = supported.types.types().map(labels::short_type);
    let all: Vec<_> = features.map(|(_, name)| name).chain(types).collect();
    all.join(" ")
}

impl ToText for Vec<LunEntry> {
    fn to_text(&self) -> String {
        if self.is_empty() {
            return "no soft LUNs\n".to_owned();
        }
        let rows = self.iter().map(|entry| match &entry.status {
            Ok(lun) => {
                let registered = lun.ports.iter().filter(|port| port.key.is_some()).count();
                let registered = format!("{registered} of {} ports", lun.ports.len());
                (
                    PLAIN,
                    vec![entry.name.clone(), registered, reservation(lun)],
                )
            }
            Err(error) => {
                let cells = vec![entry.name.clone(), "unusable".to_owned(), error.clone()];
                (INVALID, cells)
            }
        });
        table(&["NAME", "REGISTERED", "RESERVATION"], rows)
    }
}
