// SPDX-License-Identifier: MIT OR Apache-2.0

//! JSON documents. docs/prhctl.md describes them; their members keep the order given here.

use std::path::Path;

use scsi_pr::{ReservationDescriptor, ReservationKey, ReservationType, ScopeType, Sense, Status};
use serde::{Serialize, Serializer};

use crate::block_device::Part;
use crate::error::{AdvisedError, ConflictInfo, ErrorText, Failure, Rejection};
use crate::helper::DeviceResult;
use crate::labels;

/// A JSON value. Objects keep the order of their members, unlike [`serde_json::Value`].
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(u64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Number(value) => serializer.serialize_u64(*value),
            Json::String(value) => serializer.serialize_str(value),
            Json::Array(values) => serializer.collect_seq(values),
            Json::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

impl Json {
    /// Returns the text of the value, with an indented line for each member.
    pub(crate) fn pretty(&self) -> String {
        // Serialization to a string cannot fail, because the names of members are strings.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

macro_rules! impl_from {
    ($($type:ty: |$value:ident| $json:expr;)*) => {
        $(impl From<$type> for Json {
            fn from($value: $type) -> Self {
                $json
            }
        })*
    };
}

impl_from! {
    bool: |value| Json::Bool(value);
    u8: |value| Json::Number(value.into());
    u16: |value| Json::Number(value.into());
    u32: |value| Json::Number(value.into());
    u64: |value| Json::Number(value);
    usize: |value| Json::Number(u64::try_from(value).unwrap_or(u64::MAX));
    &str: |value| Json::String(value.to_owned());
    String: |value| Json::String(value);
    &String: |value| Json::String(value.clone());
    // Invalid UTF-8 is replaced.
    &Path: |value| Json::String(value.to_string_lossy().into_owned());
    ReservationKey: |value| Json::String(value.to_string());
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Json::Null, Into::into)
    }
}

impl<T: Into<Json>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Json::Array(values.into_iter().map(Into::into).collect())
    }
}

/// Creates an object from its members.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {
        $crate::output::json::Json::Object(vec![
            $(($name, $crate::output::json::Json::from($value))),*
        ])
    };
}

pub(crate) use object;

/// A result that has a JSON form.
pub(crate) trait ToJson {
    fn to_json(&self) -> Json;
}

pub(crate) fn array<'a, T: ToJson + 'a>(values: impl IntoIterator<Item = &'a T>) -> Json {
    values.into_iter().map(ToJson::to_json).collect()
}

impl<T: ToJson> ToJson for DeviceResult<T> {
    fn to_json(&self) -> Json {
        let mut members = vec![("device", Json::from(self.device.as_path()))];
        if let Json::Object(value) = self.value.to_json() {
            members.extend(value);
        }
        members.push(("part_of", self.part.as_ref().map(ToJson::to_json).into()));
        members.push(("unit_attentions", array(&self.unit_attentions)));
        Json::Object(members)
    }
}

impl ToJson for Part {
    fn to_json(&self) -> Json {
        object! { "kind": labels::part_kind(self.kind), "devices": Json::from_iter(&self.of) }
    }
}

impl ToJson for ReservationDescriptor {
    fn to_json(&self) -> Json {
        let reservation_type = self.scope_type.reservation_type();
        let is_shared = reservation_type.is_some_and(ReservationType::is_all_registrants);
        let mut members = vec![("key", Json::from((!is_shared).then_some(self.key)))];
        members.extend(scope_type(self.scope_type));
        Json::Object(members)
    }
}

pub(crate) fn scope_type(scope_type: ScopeType) -> [(&'static str, Json); 4] {
    let reservation_type = scope_type.reservation_type();
    [
        ("type", reservation_type.map(labels::long_type).into()),
        ("type_code", scope_type.type_code().into()),
        ("scope", scope_type.scope().map(labels::scope).into()),
        ("scope_code", scope_type.scope_code().into()),
    ]
}

/// Returns the document for an error.
pub(crate) fn failure(failure: &Failure, text: &ErrorText) -> Json {
    object! {
        "device": failure.device.as_deref(),
        "part_of": failure.part.as_ref().map(ToJson::to_json),
        "error": error(failure.error.as_ref(), text),
        "unit_attentions": array(&failure.unit_attentions),
    }
}

/// Returns the object for an error that is part of a result.
pub(crate) fn message(text: &str) -> Json {
    object! { "message": text }
}

/// Returns the object for an error.
pub(crate) fn error(error: &dyn AdvisedError, text: &ErrorText) -> Json {
    let rejection = error.rejection();
    let sense = rejection.and_then(|rejection| rejection.sense);
    object! {
        "message": &text.message,
        "advice": Json::from_iter(&text.advice),
        "exit_status": error.exit().code(),
        "status": rejection.map(|rejection| rejection.status.to_json()),
        "sense": sense.map(|sense| sense.to_json()),
        "conflict": rejection.and_then(conflict),
    }
}

fn conflict(rejection: &Rejection) -> Option<Json> {
    let ConflictInfo::Known {
        keys, reservation, ..
    } = &rejection.conflict
    else {
        return None;
    };
    Some(object! {
        "keys": Json::from_iter(keys.keys.iter().copied()),
        "reservation": reservation.reservation.as_ref().map(ToJson::to_json),
    })
}

impl ToJson for Status {
    fn to_json(&self) -> Json {
        object! { "code": self.0, "name": self.name() }
    }
}

impl ToJson for Sense {
    fn to_json(&self) -> Json {
        let field_pointer = self.field_pointer.map(|pointer| {
            object! { "in_cdb": pointer.in_cdb, "byte": pointer.byte, "bit": pointer.bit }
        });
        object! {
            "sense_key": self.key.code(),
            "sense_key_name": self.key.to_string(),
            "asc": self.code.asc,
            "ascq": self.code.ascq,
            "additional_sense_name": self.code.name(),
            "deferred": self.deferred,
            "information": self.information,
            "field_pointer": field_pointer,
        }
    }
}

/// Returns a reservation with the name of its holder, which is null if all registrants are holders.
pub(crate) fn held_by(reservation_type: ReservationType, holder: Option<&str>) -> Json {
    object! { "type": labels::long_type(reservation_type), "holder": holder }
}
