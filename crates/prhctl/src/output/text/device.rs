//! Answers for people.

use anstyle::Style;
use scsi_pr::{
    Capabilities, FullStatus, FullStatusDescriptor, Keys, ReservationData, ReservationDescriptor,
    ScopeType, Truncatable,
};

use super::{demo, lun};
use crate::commands::decode::{Explanation, name};
use crate::commands::release::{Answer, Change, OnDevice, Outcome, Release};
use crate::labels;
use crate::output::escape_control;
use crate::output::style::{BOLD, GOOD, PLAIN, WRONG};
use crate::output::table::table;

/// What came of a command.
pub(in crate::output) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Explained(explanation) => explained(explanation),
        Outcome::Device(answer) => on_device(answer),
        Outcome::Lun(view) => lun::text(view),
        Outcome::Luns(listed) => lun::list_text(listed),
        // The rest was shown when it was played.
        Outcome::Played(played) => demo::end(played),
    }
}

fn on_device(answer: &OnDevice) -> String {
    let device = format!("{BOLD}{}{BOLD:#}", crate::output::path(&answer.device));
    match &answer.result {
        Answer::Keys(keys) => format!("{device}: {}", list_of_keys(keys)),
        Answer::Reservation(data) => format!("{device}: {}", reservation(data)),
        Answer::Capabilities(data) => format!("{device}: {}", capabilities(data)),
        Answer::FullStatus(status) => format!("{device}: {}", full_status(status)),
        Answer::Changed(change) => format!("{device}: {}", changed(change)),
    }
}

fn list_of_keys(answer: &Truncatable<Keys>) -> String {
    let Keys { generation, keys } = &answer.value;
    let head = match keys.len() {
        0 => format!("generation {generation}, no keys\n"),
        1 => format!("generation {generation}, 1 key\n"),
        count => format!("generation {generation}, {count} keys\n"),
    };
    let lines = keys.iter().map(|key| format!("  {key}\n"));
    head + &lines.collect::<String>() + &cut_off(answer.missing)
}

fn cut_off(missing: usize) -> String {
    match missing {
        0 => String::new(),
        missing => format!(
            "{WRONG}Incomplete:{WRONG:#} the device has {missing} bytes more than a helper can pass \
             on (8192), or than it gave.\n"
        ),
    }
}

fn reservation(data: &ReservationData) -> String {
    let generation = data.generation;
    let Some(found) = data.reservation else {
        return format!("generation {generation}, no reservation\n");
    };
    let scope_type = found.scope_type;
    let everybody = scope_type.reservation_type();
    let holder = match everybody.is_some_and(|kind| kind.is_all_registrants()) {
        true => "all registrants".to_owned(),
        false => format!("key {}", found.key),
    };
    let rows = [
        ("holder", holder),
        ("type", type_in_full(scope_type)),
        ("scope", scope(scope_type)),
    ];
    format!("generation {generation}, reserved\n{}", pairs(rows))
}

/// The standard's words for a type, and the word for a command line.
fn type_in_full(scope_type: ScopeType) -> String {
    let kind = scope_type.reservation_type();
    kind.map_or_else(
        || {
            format!(
                "{:x}h, which is obsolete or reserved",
                scope_type.type_code()
            )
        },
        |kind| format!("{kind} ({})", labels::of_type(kind).0),
    )
}

fn scope(scope_type: ScopeType) -> String {
    scope_type.scope().map_or_else(
        || format!("{:x}h, which is reserved", scope_type.scope_code()),
        |scope| scope.to_string(),
    )
}

fn capabilities(data: &Capabilities) -> String {
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let types = data.type_mask.map_or_else(
        || "not stated".to_owned(),
        |mask| {
            let words: Vec<&str> = mask.types().map(|kind| labels::of_type(kind).0).collect();
            words.join(" ")
        },
    );
    let active = yes(data.persist_through_power_loss_active);
    let rows = [
        ("types", types),
        (
            "keeps registrations without power (PTPL_C)",
            yes(data.persist_through_power_loss),
        ),
        ("does so now (PTPL_A)", active),
        (
            "registers at all target ports at once (ATP_C)",
            yes(data.all_target_ports),
        ),
        (
            "registers other initiator ports (SIP_C)",
            yes(data.specify_initiator_ports),
        ),
        (
            "lets the holder use RESERVE of SPC-2 (CRH)",
            yes(data.compatible_reservation_handling),
        ),
        (
            "knows REPLACE LOST RESERVATION (RLR_C)",
            yes(data.replace_lost_reservation),
        ),
        (
            "commands allowed to others (ALLOW COMMANDS)",
            data.allow_commands.to_string(),
        ),
    ];
    format!("capabilities\n{}", pairs(rows))
}

/// Names and values in two columns.
fn pairs<const N: usize>(rows: [(&str, String); N]) -> String {
    let rows = rows.into_iter();
    table(
        &[],
        rows.map(|(name, value)| (PLAIN, vec![format!(" {name}"), value])),
    )
}

fn full_status(answer: &Truncatable<FullStatus>) -> String {
    let FullStatus {
        generation,
        descriptors,
    } = &answer.value;
    let head = match descriptors.len() {
        0 => format!("generation {generation}, no registrations"),
        1 => format!("generation {generation}, 1 registration"),
        count => format!("generation {generation}, {count} registrations"),
    };
    let held = descriptors.iter().find(|descriptor| descriptor.holder);
    let held = match held {
        Some(holder) => format!(", reserved: {}\n", type_in_full(holder.scope_type)),
        // An end that is missing may have the holder in it.
        None if answer.is_complete() => ", no reservation\n".to_owned(),
        None => "\n".to_owned(),
    };
    let header = [" KEY", "HOLDER", "TYPE", "SCOPE", "PORT", "TRANSPORTID"];
    let rows = match descriptors.is_empty() {
        true => String::new(),
        false => table(&header, descriptors.iter().map(registration)),
    };
    head + &held + &rows + &cut_off(answer.missing)
}

fn registration(descriptor: &FullStatusDescriptor) -> (Style, Vec<String>) {
    let scope_type = descriptor.scope_type;
    let kind = scope_type.reservation_type();
    let kind = kind.map_or_else(
        || format!("{:x}h", scope_type.type_code()),
        |kind| labels::of_type(kind).0.to_owned(),
    );
    let of_holder = |text: String| match descriptor.holder {
        true => text,
        false => "-".to_owned(),
    };
    let port = match descriptor.all_tg_pt {
        true => "all".to_owned(),
        false => descriptor.relative_target_port.to_string(),
    };
    let name = match &descriptor.transport_id {
        Ok(id) => id.to_string(),
        Err(malformed) => malformed.to_string(),
    };
    let cells = vec![
        format!(" {}", descriptor.key),
        of_holder("yes".to_owned()),
        of_holder(kind),
        of_holder(scope(scope_type)),
        port,
        name,
    ];
    let style = if descriptor.holder { GOOD } else { PLAIN };
    (style, cells)
}

fn changed(change: &Change) -> String {
    match change {
        Change::Registered { key, .. } => format!("registered with key {key}"),
        Change::Unregistered(key) => format!("not registered any more, key {key} is removed"),
        Change::Reserved(key, kind) => format!("reserved with key {key}: {kind}"),
        Change::Released(release) => released(*release),
        Change::Cleared => "cleared: no reservation, and nobody is registered".to_owned(),
        Change::Preempted { victim, .. } if victim.is_zero() => {
            "preempt of all other registrants done".to_owned()
        }
        Change::Preempted { victim, .. } => format!("preempt of key {victim} done"),
        Change::Moved { key, to } => format!("moved to {to}, registered with key {key}"),
    }
}

fn released(release: Release) -> String {
    match release {
        Release::Nothing => "nothing to release: there is no reservation".to_owned(),
        Release::Done(key, kind) => format!("released with key {key}: {kind}"),
        Release::Replaced(key, now) => {
            format!("released with key {key}, and is now {}", held(now))
        }
        Release::Still(now) => format!(
            "still {}: the device took the command and did nothing, as it does with one of a \
             registrant that is not the holder",
            held(now)
        ),
        Release::Gone => "the device took the command, and there is no reservation now".to_owned(),
        Release::Held(now) => format!(
            "the device took the command, and is {}: from a registrant that is not the holder it does \
             nothing",
            held(now)
        ),
        Release::Unknown => {
            "the device took the command, and did not say what is reserved now".to_owned()
        }
    }
}

/// Who holds a reservation, and of which type.
fn held(reservation: ReservationDescriptor) -> String {
    let ReservationDescriptor { key, scope_type } = reservation;
    let kind = scope_type.reservation_type();
    match kind.is_some_and(|kind| kind.is_all_registrants()) {
        true => format!("held by all registrants, {scope_type}"),
        false => format!("held with key {key}, {scope_type}"),
    }
}

fn explained(explanation: &Explanation) -> String {
    let head = match &explanation.summary {
        Ok(summary) => format!("{BOLD}{}{BOLD:#}\n", escape_control(summary)),
        Err(problem) => format!(
            "{WRONG}wrong {}:{WRONG:#} {}\n",
            name(&explanation.kind),
            escape_control(problem)
        ),
    };
    let rows = explanation.fields.iter().map(|field| {
        let cells = [&field.place, &field.name, &field.value, &field.meaning];
        let cells = cells.map(String::clone).map(shortened);
        (PLAIN, cells.to_vec())
    });
    match explanation.fields.is_empty() {
        true => head,
        false => head + &table(&["PLACE", "FIELD", "VALUE", "MEANING"], rows),
    }
}

/// A value that a line has room for; JSON has all of it.
fn shortened(cell: String) -> String {
    const MOST: usize = 60;
    match cell.char_indices().nth(MOST) {
        Some((end, _)) if cell.chars().all(|c| c.is_ascii_hexdigit()) => {
            format!("{}…", cell.get(..end).unwrap_or_default())
        }
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scsi_pr::{RelativeTargetPort, ReservationKey, ReservationType};

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn descriptor(key: u64, holder: bool, id: &str) -> FullStatusDescriptor {
        FullStatusDescriptor {
            key: ReservationKey::new(key),
            all_tg_pt: !holder,
            holder,
            scope_type: ReservationType::WriteExclusiveRegistrantsOnly.into(),
            relative_target_port: RelativeTargetPort::new(1),
            transport_id: Ok(id.parse().unwrap()),
        }
    }

    #[test]
    fn full_status_is_a_table() {
        let answer = Truncatable {
            value: FullStatus {
                generation: 4.into(),
                descriptors: vec![
                    descriptor(0x12_3abc, true, "sas,5000c50005b32001"),
                    descriptor(0x1, false, "iqn.2024-01.example:a,i,0x00023d000001"),
                ],
            },
            missing: 0,
        };
        assert_eq!(
            plain(&full_status(&answer)),
            "generation 0x4, 2 registrations, reserved: Write Exclusive - Registrants Only (we-ro)
  KEY       HOLDER  TYPE   SCOPE         PORT  TRANSPORTID
  0x123abc  yes     we-ro  Logical Unit  1     sas,5000c50005b32001
  0x1       -       -      -             all   iqn.2024-01.example:a,i,0x00023d000001
"
        );
    }

    #[test]
    fn the_missing_end_of_a_list_is_said() {
        let answer = Truncatable {
            value: FullStatus::default(),
            missing: 48,
        };
        let text = plain(&full_status(&answer));
        assert!(!text.contains("no reservation"), "{text}");
        assert!(
            text.contains("Incomplete: the device has 48 bytes more"),
            "{text}"
        );
    }

    #[test]
    fn a_reservation_of_all_registrants_has_no_key() {
        let found = |kind| ReservationData {
            generation: 1.into(),
            reservation: Some(ReservationDescriptor {
                key: ReservationKey::ZERO,
                scope_type: kind,
            }),
        };
        let kind = ReservationType::ExclusiveAccessAllRegistrants;
        assert_eq!(
            plain(&reservation(&found(kind.into()))),
            "generation 0x1, reserved
  holder  all registrants
  type    Exclusive Access - All Registrants (ea-ar)
  scope   Logical Unit
"
        );
        let odd = plain(&reservation(&found(ScopeType(0x34))));
        assert!(odd.contains("4h, which is obsolete or reserved"), "{odd}");
        assert!(odd.contains("3h, which is reserved"), "{odd}");
    }
}
