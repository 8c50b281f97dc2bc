// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of types, scopes, service actions, unit attentions and parts on the command line and in
//! JSON, and the parsers of option values.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use scsi_pr::{
    OutServiceAction, RelativeTargetPort, ReservationKey, ReservationKeyError, ReservationType,
    Scope,
};
use soft_lun::UnitAttention;
use thiserror::Error;

use crate::block_device::PartKind;

/// Returns the short name of a reservation type.
pub(crate) const fn short_type(reservation_type: ReservationType) -> &'static str {
    match reservation_type {
        ReservationType::WriteExclusive => "we",
        ReservationType::ExclusiveAccess => "ea",
        ReservationType::WriteExclusiveRegistrantsOnly => "we-ro",
        ReservationType::ExclusiveAccessRegistrantsOnly => "ea-ro",
        ReservationType::WriteExclusiveAllRegistrants => "we-ar",
        ReservationType::ExclusiveAccessAllRegistrants => "ea-ar",
    }
}

/// Returns the long name of a reservation type.
pub(crate) const fn long_type(reservation_type: ReservationType) -> &'static str {
    match reservation_type {
        ReservationType::WriteExclusive => "write-exclusive",
        ReservationType::ExclusiveAccess => "exclusive-access",
        ReservationType::WriteExclusiveRegistrantsOnly => "write-exclusive-registrants-only",
        ReservationType::ExclusiveAccessRegistrantsOnly => "exclusive-access-registrants-only",
        ReservationType::WriteExclusiveAllRegistrants => "write-exclusive-all-registrants",
        ReservationType::ExclusiveAccessAllRegistrants => "exclusive-access-all-registrants",
    }
}

/// Returns the name of a scope.
pub(crate) const fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::LogicalUnit => "logical-unit",
        Scope::Extent => "extent",
        Scope::Element => "element",
    }
}

/// Returns the name of a service action of PERSISTENT RESERVE OUT.
pub(crate) const fn service_action(action: OutServiceAction) -> &'static str {
    match action {
        OutServiceAction::Register => "register",
        OutServiceAction::Reserve => "reserve",
        OutServiceAction::Release => "release",
        OutServiceAction::Clear => "clear",
        OutServiceAction::Preempt => "preempt",
        OutServiceAction::PreemptAndAbort => "preempt-and-abort",
        OutServiceAction::RegisterAndIgnoreExistingKey => "register-and-ignore-existing-key",
        OutServiceAction::RegisterAndMove => "register-and-move",
        OutServiceAction::ReplaceLostReservation => "replace-lost-reservation",
    }
}

/// Returns the name of a unit attention of a soft LUN.
pub(crate) const fn unit_attention(unit_attention: UnitAttention) -> &'static str {
    match unit_attention {
        UnitAttention::PowerOn => "power-on",
        UnitAttention::ReservationsPreempted => "reservations-preempted",
        UnitAttention::ReservationsReleased => "reservations-released",
        UnitAttention::RegistrationsPreempted => "registrations-preempted",
    }
}

/// Returns the name of the kind of a part.
pub(crate) const fn part_kind(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Path => "path",
        PartKind::Partition => "partition",
        PartKind::Volume => "volume",
    }
}

/// An option value that cannot be parsed.
#[derive(Debug, Error)]
pub(crate) enum ValueError {
    #[error(transparent)]
    Key(#[from] ReservationKeyError),
    #[error("the suffix ':aptpl' is multipath.conf syntax; give the key alone and use --aptpl")]
    KeyWithAptpl,
    #[error("key must not be 0; use 'prhctl unregister' to remove a registration")]
    ZeroKey,
    #[error(
        "not a reservation type; valid are we, ea, we-ro, ea-ro, we-ar, ea-ar, their long names, \
         and 1, 3, 5, 6, 7, 8"
    )]
    ReservationType,
    #[error(
        "not a service action; valid are 0 to 8 and {}",
        OutServiceAction::ALL.map(service_action).join(", ")
    )]
    ServiceAction,
    #[error("not a relative target port; valid are 1 to 65535")]
    TargetPort,
    #[error(
        "not a time; valid are durations (10m, 2h), times of day (14:30), and RFC 3339 \
         (2026-03-01T14:30:00+01:00)"
    )]
    Time,
    #[error("this is a key, and -k names the helper's socket; use --key")]
    KeyAsSocket,
}

/// Parses a key.
pub(crate) fn parse_key(text: &str) -> Result<ReservationKey, ValueError> {
    match text.to_ascii_lowercase().ends_with(":aptpl") {
        true => Err(ValueError::KeyWithAptpl),
        false => Ok(text.parse()?),
    }
}

/// Parses a key that can be registered, which is any key but zero.
pub(crate) fn parse_nonzero_key(text: &str) -> Result<ReservationKey, ValueError> {
    let key = parse_key(text)?;
    match key.is_zero() {
        true => Err(ValueError::ZeroKey),
        false => Ok(key),
    }
}

/// Parser of a value that has a name. The names are offered for completion.
#[derive(Debug)]
pub(crate) struct NameParser<T: 'static> {
    parse: fn(&str) -> Result<T, ValueError>,
    all: &'static [T],
    name: fn(T) -> &'static str,
}

/// Parser of a reservation type: its short name, its long name or its number.
pub(crate) const RESERVATION_TYPE: NameParser<ReservationType> = NameParser {
    parse: parse_reservation_type,
    all: &ReservationType::ALL,
    name: short_type,
};

/// Parser of a service action of PERSISTENT RESERVE OUT: its name or its number.
pub(crate) const SERVICE_ACTION: NameParser<OutServiceAction> = NameParser {
    parse: parse_service_action,
    all: &OutServiceAction::ALL,
    name: service_action,
};

// Deriving this would require that the value can be cloned.
impl<T> Clone for NameParser<T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T: Copy + Send + Sync + 'static> TypedValueParser for NameParser<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        self.parse.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = self.all.iter().map(|value| (self.name)(*value));
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

/// Parses a reservation type. Case and underscores do not matter.
fn parse_reservation_type(text: &str) -> Result<ReservationType, ValueError> {
    let text = text.to_ascii_lowercase().replace('_', "-");
    ReservationType::ALL
        .into_iter()
        .find(|reservation_type| {
            [short_type(*reservation_type), long_type(*reservation_type)].contains(&text.as_str())
                || text == reservation_type.code().to_string()
        })
        .ok_or(ValueError::ReservationType)
}

fn parse_service_action(text: &str) -> Result<OutServiceAction, ValueError> {
    OutServiceAction::ALL
        .into_iter()
        .find(|action| text == service_action(*action) || text == action.code().to_string())
        .ok_or(ValueError::ServiceAction)
}

/// Rejects a key in place of the helper's socket.
pub(crate) fn check_socket(socket: PathBuf) -> Result<PathBuf, ValueError> {
    let is_key = socket
        .to_str()
        .is_some_and(|text| text.parse::<ReservationKey>().is_ok());
    match is_key && !socket.exists() {
        true => Err(ValueError::KeyAsSocket),
        false => Ok(socket),
    }
}

/// Parses a relative target port.
pub(crate) fn parse_target_port(text: &str) -> Result<RelativeTargetPort, ValueError> {
    match text.parse::<u16>() {
        Ok(number @ 1..) => Ok(number.into()),
        _ => Err(ValueError::TargetPort),
    }
}
