//! Soft LUNs, for people and for programs.

use anstyle::Style;
use scsi_pr::ReservationType;
use serde::Serialize;
use soft_lun::{SupportedFeatures, UnitAttention};

use crate::commands::lun::{Listed, PortView, View};
use crate::labels;
use crate::output::held::{self, HeldJson};
use crate::output::json::text_of;
use crate::output::style::{BOLD, GOOD, PLAIN, WRONG};
use crate::output::table::table;

/// One of them, for people.
pub(in crate::output) fn text(view: &View) -> String {
    let head = format!(
        "{BOLD}{}{BOLD:#}: soft LUN {}",
        crate::output::path(&view.path),
        view.identity
    );
    let aptpl = if view.aptpl {
        "outlast"
    } else {
        "do not outlast"
    };
    let rows = [
        ("reservation", reservation(view)),
        ("generation", view.generation.to_string()),
        ("registrations", format!("{aptpl} a loss of power")),
        ("supports", supported(view.supported)),
    ];
    let rows = rows.map(|(name, value)| (PLAIN, vec![format!(" {name}"), value]));
    let header = [
        " PORT",
        "KEY",
        "HOLDER",
        "MAY",
        "TOLD NEXT",
        "TARGET PORT",
        "INITIATOR PORT",
    ];
    let ports = view.ports.iter().map(port);
    format!("{head}\n{}\n{}", table(&[], rows), table(&header, ports))
}

fn port(port: &PortView) -> (Style, Vec<String>) {
    let attentions: Vec<_> = port.attentions.iter().map(|one| attention(*one)).collect();
    let cells = vec![
        format!(" {}", port.name),
        port.key.map_or_else(dash, |key| key.to_string()),
        if port.holder {
            "yes".to_owned()
        } else {
            dash()
        },
        may(port).to_owned(),
        if attentions.is_empty() {
            dash()
        } else {
            attentions.join(", ")
        },
        port.nexus.target_port.to_string(),
        port.nexus.initiator.to_string(),
    ];
    (if port.holder { GOOD } else { PLAIN }, cells)
}

fn dash() -> String {
    "-".to_owned()
}

const fn may(port: &PortView) -> &'static str {
    match (port.may_read, port.may_write) {
        (_, true) => "read, write",
        (true, false) => "read",
        (false, false) => "nothing",
    }
}

const fn attention(attention: UnitAttention) -> &'static str {
    match attention {
        UnitAttention::PowerOn => "power-on",
        UnitAttention::ReservationsPreempted => "reservations-preempted",
        UnitAttention::ReservationsReleased => "reservations-released",
        UnitAttention::RegistrationsPreempted => "registrations-preempted",
    }
}

fn reservation(view: &View) -> String {
    held::text(reserved(view), "none")
}

fn reserved(view: &View) -> Option<(ReservationType, Option<&str>)> {
    let (kind, holder) = view.reservation.as_ref()?;
    Some((*kind, holder.as_deref()))
}

fn supported(supported: SupportedFeatures) -> String {
    let flags = [
        (supported.persist_through_power_loss, "APTPL"),
        (supported.specify_initiator_ports, "SPEC_I_PT"),
        (supported.all_target_ports, "ALL_TG_PT"),
    ];
    let flags = flags
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, name)| name);
    let types = supported.types.types().map(|kind| labels::of_type(kind).0);
    let all: Vec<_> = flags.chain(types).collect();
    all.join(" ")
}

/// Those in a folder, for people.
pub(in crate::output) fn list_text(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no soft LUNs\n".to_owned();
    }
    let rows = listed.iter().map(|one| match &one.view {
        Ok(view) => {
            let registered = view.ports.iter().filter(|port| port.key.is_some()).count();
            let registered = format!("{registered} of {} ports", view.ports.len());
            let cells = vec![one.name.clone(), registered, reservation(view)];
            (PLAIN, cells)
        }
        Err(error) => (
            WRONG,
            vec![one.name.clone(), "unusable".to_owned(), error.clone()],
        ),
    });
    table(&["NAME", "REGISTERED", "RESERVATION"], rows)
}

/// One of them, for programs.
#[derive(Serialize)]
pub(in crate::output) struct LunJson {
    path: String,
    identity: String,
    generation: u32,
    aptpl: bool,
    reservation: Option<HeldJson>,
    supported: SupportedJson,
    ports: Vec<PortJson>,
}

#[derive(Serialize)]
struct SupportedJson {
    aptpl: bool,
    spec_i_pt: bool,
    all_tg_pt: bool,
    types: Vec<&'static str>,
}

#[derive(Serialize)]
struct PortJson {
    name: String,
    path: String,
    initiator: String,
    target_port: u16,
    key: Option<String>,
    is_holder: bool,
    may_read: bool,
    may_write: bool,
    attentions: Vec<&'static str>,
}

impl LunJson {
    pub(in crate::output) fn of(view: &View) -> Self {
        let types = view.supported.types.types();
        LunJson {
            path: text_of(&view.path),
            identity: view.identity.to_string(),
            generation: view.generation.get(),
            aptpl: view.aptpl,
            reservation: reserved(view).map(HeldJson::of),
            supported: SupportedJson {
                aptpl: view.supported.persist_through_power_loss,
                spec_i_pt: view.supported.specify_initiator_ports,
                all_tg_pt: view.supported.all_target_ports,
                types: types.map(|kind| labels::of_type(kind).1).collect(),
            },
            ports: view.ports.iter().map(PortJson::of).collect(),
        }
    }
}

impl PortJson {
    fn of(port: &PortView) -> Self {
        PortJson {
            name: port.name.clone(),
            path: text_of(&port.path),
            initiator: port.nexus.initiator.to_string(),
            target_port: port.nexus.target_port.get(),
            key: port.key.map(|key| key.to_string()),
            is_holder: port.holder,
            may_read: port.may_read,
            may_write: port.may_write,
            attentions: port.attentions.iter().map(|one| attention(*one)).collect(),
        }
    }
}

/// Those in a folder, for programs.
#[derive(Serialize)]
pub(in crate::output) struct LunsJson {
    luns: Vec<ListedJson>,
}

#[derive(Serialize)]
struct ListedJson {
    name: String,
    /// `null` if it cannot be used.
    lun: Option<LunJson>,
    /// Why it cannot be used.
    problem: Option<String>,
}

impl LunsJson {
    pub(in crate::output) fn of(listed: &[Listed]) -> Self {
        let one = |one: &Listed| ListedJson {
            name: one.name.clone(),
            lun: one.view.as_ref().ok().map(LunJson::of),
            problem: one.view.as_ref().err().cloned(),
        };
        LunsJson {
            luns: listed.iter().map(one).collect(),
        }
    }
}
