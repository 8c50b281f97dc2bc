//! Answers for programs: docs/prhctl.md describes each document.

mod error;

use std::path::Path;

use scsi_pr::{
    Capabilities, FullStatusDescriptor, Keys, ReservationData, ReservationDescriptor,
    ReservationKey, ScopeType,
};
use serde::Serialize;

use super::Told;
use super::text::demo::DemoJson;
use super::text::lun::{LunJson, LunsJson};
use crate::commands::decode::{Explanation, name};
use crate::commands::demo::Demonstration;
use crate::commands::release::{Answer, Change, OnDevice, Outcome};
use crate::error::Failure;
use crate::labels;
use error::ErrorDocument;
pub(super) use error::{ErrorJson, SenseJson, StatusJson};

/// The document for what came of a command.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Explained(explanation) => document(&ExplanationJson::of(explanation)),
        Outcome::Device(on_device) => document(&OnDeviceJson::of(on_device)),
        Outcome::Lun(view) => document(&LunJson::of(view)),
        Outcome::Luns(listed) => document(&LunsJson::of(listed)),
        Outcome::Played(played) => demonstration(played, None),
    }
}

/// The document for a failure.
pub(super) fn failure(failure: &Failure, told: &Told) -> String {
    document(&ErrorDocument {
        device: failure.device.as_deref().map(text_of),
        error: ErrorJson::of(&failure.error, told),
        unit_attentions: failure.attentions.iter().map(SenseJson::of).collect(),
    })
}

/// The document for a demonstration, with what has broken it off.
pub(super) fn demonstration(played: &Demonstration, told: Option<&Told>) -> String {
    let trouble = played.trouble.as_ref();
    let error = trouble.zip(told);
    let error = error.map(|(error, told)| ErrorJson::of(error, told));
    document(&DemoJson::of(played, error))
}

/// A path as a string; what is no UTF-8 in it is replaced.
pub(super) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn document(value: &impl Serialize) -> String {
    // Strings, numbers and lists of them always have a form.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[derive(Serialize)]
struct OnDeviceJson {
    device: String,
    #[serde(flatten)]
    answer: AnswerJson,
    unit_attentions: Vec<SenseJson>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnswerJson {
    Keys {
        generation: u32,
        keys: Vec<String>,
        missing_bytes: usize,
    },
    Reservation {
        generation: u32,
        reservation: Option<ReservationJson>,
    },
    Capabilities(CapabilitiesJson),
    FullStatus {
        generation: u32,
        registrations: Vec<RegistrationJson>,
        missing_bytes: usize,
    },
    Changed {
        service_action: &'static str,
        /// `null` if it is not known.
        changed: Option<bool>,
    },
}

impl OnDeviceJson {
    fn of(answer: &OnDevice) -> Self {
        OnDeviceJson {
            device: text_of(&answer.device),
            answer: AnswerJson::of(&answer.result),
            unit_attentions: answer.attentions.iter().map(SenseJson::of).collect(),
        }
    }
}

impl AnswerJson {
    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Keys(answer) => AnswerJson::Keys {
                generation: answer.value.generation.get(),
                keys: key_list(&answer.value),
                missing_bytes: answer.missing,
            },
            Answer::Reservation(data) => AnswerJson::Reservation {
                generation: data.generation.get(),
                reservation: ReservationJson::of(data),
            },
            Answer::Capabilities(data) => AnswerJson::Capabilities(CapabilitiesJson::of(data)),
            Answer::FullStatus(answer) => AnswerJson::FullStatus {
                generation: answer.value.generation.get(),
                registrations: answer
                    .value
                    .descriptors
                    .iter()
                    .map(RegistrationJson::of)
                    .collect(),
                missing_bytes: answer.missing,
            },
            Answer::Changed(change) => AnswerJson::changed(change),
        }
    }

    const fn changed(change: &Change) -> Self {
        AnswerJson::Changed {
            service_action: labels::of_out(change.service_action()),
            changed: change.is_done(),
        }
    }
}

fn key_list(keys: &Keys) -> Vec<String> {
    keys.keys.iter().map(ReservationKey::to_string).collect()
}

#[derive(Serialize)]
struct ScopeTypeJson {
    #[serde(rename = "type")]
    reservation_type: Option<&'static str>,
    type_code: u8,
    scope: Option<&'static str>,
    scope_code: u8,
}

impl ScopeTypeJson {
    fn of(scope_type: ScopeType) -> Self {
        let kind = scope_type.reservation_type();
        ScopeTypeJson {
            reservation_type: kind.map(|kind| labels::of_type(kind).1),
            type_code: scope_type.type_code(),
            scope: scope_type.scope().map(labels::of_scope),
            scope_code: scope_type.scope_code(),
        }
    }
}

#[derive(Serialize)]
struct ReservationJson {
    /// `null` where all registrants hold it.
    key: Option<String>,
    #[serde(flatten)]
    scope_type: ScopeTypeJson,
}

impl ReservationJson {
    fn of(data: &ReservationData) -> Option<Self> {
        let ReservationDescriptor { key, scope_type } = data.reservation?;
        let kind = scope_type.reservation_type();
        let everybody = kind.is_some_and(|kind| kind.is_all_registrants());
        Some(ReservationJson {
            key: (!everybody).then(|| key.to_string()),
            scope_type: ScopeTypeJson::of(scope_type),
        })
    }
}

#[derive(Serialize)]
struct CapabilitiesJson {
    types: Option<Vec<&'static str>>,
    persist_through_power_loss: bool,
    persist_through_power_loss_active: bool,
    all_target_ports: bool,
    specify_initiator_ports: bool,
    compatible_reservation_handling: bool,
    replace_lost_reservation: bool,
    allow_commands: u8,
}

impl CapabilitiesJson {
    fn of(data: &Capabilities) -> Self {
        CapabilitiesJson {
            types: data
                .type_mask
                .map(|mask| mask.types().map(|kind| labels::of_type(kind).1).collect()),
            persist_through_power_loss: data.persist_through_power_loss,
            persist_through_power_loss_active: data.persist_through_power_loss_active,
            all_target_ports: data.all_target_ports,
            specify_initiator_ports: data.specify_initiator_ports,
            compatible_reservation_handling: data.compatible_reservation_handling,
            replace_lost_reservation: data.replace_lost_reservation,
            allow_commands: data.allow_commands.get(),
        }
    }
}

#[derive(Serialize)]
struct RegistrationJson {
    key: String,
    is_holder: bool,
    /// `null` unless the registrant is a holder.
    reservation: Option<ScopeTypeJson>,
    all_target_ports: bool,
    /// `null` if it is registered at all of them.
    relative_target_port: Option<u16>,
    transport_id: String,
}

impl RegistrationJson {
    fn of(descriptor: &FullStatusDescriptor) -> Self {
        let port = descriptor.relative_target_port.get();
        RegistrationJson {
            key: descriptor.key.to_string(),
            is_holder: descriptor.holder,
            reservation: descriptor
                .holder
                .then(|| ScopeTypeJson::of(descriptor.scope_type)),
            all_target_ports: descriptor.all_tg_pt,
            relative_target_port: (!descriptor.all_tg_pt).then_some(port),
            transport_id: match &descriptor.transport_id {
                Ok(id) => id.to_string(),
                Err(malformed) => malformed.to_string(),
            },
        }
    }
}

#[derive(Serialize)]
struct ExplanationJson<'a> {
    kind: String,
    summary: Option<&'a str>,
    problem: Option<&'a str>,
    fields: Vec<FieldJson<'a>>,
}

#[derive(Serialize)]
struct FieldJson<'a> {
    place: &'a str,
    name: &'a str,
    value: &'a str,
    meaning: &'a str,
}

impl<'a> ExplanationJson<'a> {
    fn of(explanation: &'a Explanation) -> Self {
        let fields = explanation.fields.iter().map(|field| FieldJson {
            place: &field.place,
            name: &field.name,
            value: &field.value,
            meaning: &field.meaning,
        });
        ExplanationJson {
            kind: name(&explanation.kind),
            summary: explanation.summary.as_deref().ok(),
            problem: explanation.summary.as_ref().err().map(String::as_str),
            fields: fields.collect(),
        }
    }
}
