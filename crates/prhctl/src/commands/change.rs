// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE OUT, which all subcommands that change a device send.

use scsi_pr::{
    BasicParameterList, OutServiceAction, ParameterList, ReservationDescriptor, ReservationKey,
    ReservationType, ScopeType, Status, TransportId,
};

use super::{capabilities, keys, reservation, status};
use crate::error::{ConflictInfo, Error};
use crate::helper::HelperConnection;
use crate::labels;
use crate::output::json::{Json, ToJson, object};
use crate::output::text::{ToText, is_all_registrants};
use crate::own_registration::{self, OwnRegistration};

/// Explanation of a RELEASE without effect.
const RELEASE_IGNORED: &str = "the device accepts RELEASE from a non-holder and ignores it";

/// A completed change.
#[derive(Debug)]
pub(crate) enum Change {
    Registered {
        key: ReservationKey,
        /// REGISTER or REGISTER AND IGNORE EXISTING KEY.
        action: OutServiceAction,
    },
    Unregistered(ReservationKey),
    Reserved(ReservationKey, ReservationType),
    Replaced(ReservationKey, ReservationType),
    Released(ReleaseResult),
    Cleared,
    Preempted {
        sender: ReservationKey,
        victim: ReservationKey,
        /// PREEMPT or PREEMPT AND ABORT.
        action: OutServiceAction,
    },
    Moved {
        /// The key that the new holder is registered with.
        key: ReservationKey,
        to: TransportId,
    },
}

impl Change {
    /// Returns the service action that was sent.
    pub(crate) const fn service_action(&self) -> OutServiceAction {
        match self {
            Change::Registered { action, .. } | Change::Preempted { action, .. } => *action,
            Change::Unregistered(_) => OutServiceAction::Register,
            Change::Reserved(..) => OutServiceAction::Reserve,
            Change::Replaced(..) => OutServiceAction::ReplaceLostReservation,
            Change::Released(_) => OutServiceAction::Release,
            Change::Cleared => OutServiceAction::Clear,
            Change::Moved { .. } => OutServiceAction::RegisterAndMove,
        }
    }

    /// Returns whether the device changed anything; `None` if that is unknown.
    pub(crate) const fn is_changed(&self) -> Option<bool> {
        match self {
            Change::Released(result) => result.is_changed(),
            _ => Some(true),
        }
    }
}

/// The result of RELEASE. A device ends RELEASE from a registrant that is not the holder with GOOD
/// as well, so only the reservations before and after show what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseResult {
    /// There was no reservation, so nothing was sent.
    NotReserved,
    Released(ReservationKey, ScopeType),
    /// Released, and there is another reservation now.
    ReleasedThenReserved(ReservationKey, ReservationDescriptor),
    Unchanged(ReservationDescriptor),
    /// There is no reservation now. It was not read before, or was held with another key.
    NoReservationNow,
    /// There is a reservation now. It was not read before, or was held with another key.
    ReservedNow(ReservationDescriptor),
    /// The status was GOOD, but the reservation could not be read afterwards.
    Unverified,
}

impl ReleaseResult {
    /// Returns whether the reservation was released; `None` if that is unknown.
    pub(super) const fn is_changed(self) -> Option<bool> {
        match self {
            ReleaseResult::NotReserved | ReleaseResult::Unchanged(_) => Some(false),
            ReleaseResult::Released(..) | ReleaseResult::ReleasedThenReserved(..) => Some(true),
            ReleaseResult::NoReservationNow
            | ReleaseResult::ReservedNow(_)
            | ReleaseResult::Unverified => None,
        }
    }
}

/// Returns a parameter list that contains only the sender's key.
pub(super) fn with_key(key: ReservationKey) -> BasicParameterList {
    BasicParameterList {
        reservation_key: key,
        ..BasicParameterList::default()
    }
}

/// Sends PERSISTENT RESERVE OUT. If registrations and reservation decide the cause of a rejection,
/// also queries them.
pub(super) fn send(
    helper: &mut HelperConnection<'_>,
    action: OutServiceAction,
    scope_type: Option<ScopeType>,
    list: impl Into<ParameterList>,
) -> Result<(), Error> {
    let result = helper.reserve_out(action, scope_type.unwrap_or_default(), &list.into());
    result.map_err(|error| match error {
        Error::Rejected(mut rejection)
            if rejection.is_conflict()
                || rejection.is_refused_registration()
                || rejection.is_about_reservation() =>
        {
            rejection.conflict = fetch_conflict(helper);
            Error::Rejected(rejection)
        }
        other => other,
    })
}

/// Prints a note if a reservation of this type lets only one path of a multipath map write.
pub(super) fn note_exclusive_type(
    helper: &HelperConnection<'_>,
    reservation_type: ReservationType,
) {
    if helper.multipath_map().is_some() && !reservation_type.allows_registrants() {
        helper.note(&format!(
            "a reservation of type {reservation_type} on a multipath map lets only the path that \
             holds it write, and writes through the other paths fail; use a type for registrants \
             (we-ro, ea-ro, we-ar, ea-ar)"
        ));
    }
}

/// Queries registrations and reservation. A failure must not hide the conflict.
fn fetch_conflict(helper: &mut HelperConnection<'_>) -> ConflictInfo {
    let result = keys::query(helper).and_then(|keys| Ok((keys, reservation::query(helper)?)));
    let (keys, reservation) = match result {
        Ok(found) => found,
        Err(Error::Rejected(rejection)) if rejection.status == Status::RESERVATION_CONFLICT => {
            return ConflictInfo::Denied;
        }
        Err(_) => return ConflictInfo::Unknown,
    };
    // Not all devices support this query.
    let status = status::query_registrations(helper).ok();
    let own = status.as_ref().map(|status| {
        let owners = helper.owners(&status.value.descriptors);
        own_registration::find(status, &owners)
    });
    ConflictInfo::Known {
        keys: keys.value,
        missing_bytes: keys.missing,
        reservation,
        own: Box::new(own.unwrap_or(OwnRegistration::Unknown)),
        registrations: status.map_or_else(Vec::new, |status| status.value.descriptors),
    }
}

/// Persistence of registrations and reservation through a power loss (`PTPL_A`) before a change.
/// Every REGISTER sets it for all registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PowerLossPersistence {
    On,
    Off,
    /// The device does not report it.
    Unknown,
}

impl PowerLossPersistence {
    /// Queries the device. Fails only if the change must not follow: the helper is gone, or the
    /// device reports a unit attention.
    pub(super) fn query(helper: &mut HelperConnection<'_>) -> Result<Self, Error> {
        match capabilities::query(helper) {
            Ok(found) if found.persist_through_power_loss_active => Ok(Self::On),
            Ok(_) => Ok(Self::Off),
            Err(error @ Error::Exchange { .. }) => Err(error),
            Err(Error::Rejected(rejection)) if rejection.unit_attention().is_some() => {
                Err(Error::Rejected(rejection))
            }
            Err(_) => Ok(Self::Unknown),
        }
    }

    /// Prints a note if a registration without APTPL may turn this off.
    pub(super) fn note_if_unknown(self, helper: &HelperConnection<'_>) {
        if self == Self::Unknown {
            helper.note(
                "the device did not report whether registrations persist through a power loss; \
                 they no longer do",
            );
        }
    }

    /// Prints a note if a registration without APTPL has just turned this off.
    pub(super) fn note_if_lost(self, helper: &HelperConnection<'_>, aptpl: bool) {
        if self == Self::On && !aptpl {
            helper.note(
                "registrations and reservation of all ports no longer persist through a power \
                 loss; use --aptpl to keep that",
            );
        }
    }
}

impl ToText for Change {
    fn to_text(&self) -> String {
        match self {
            Change::Registered { key, .. } => format!("registered with key {key}"),
            Change::Unregistered(key) => format!("unregistered, key {key} was removed"),
            Change::Reserved(key, kind) => format!("reserved with key {key}: {kind}"),
            Change::Replaced(key, kind) => {
                format!("lost reservation replaced, reserved with key {key}: {kind}")
            }
            Change::Released(result) => released(*result),
            Change::Cleared => "cleared: no reservation and no registrations".to_owned(),
            Change::Preempted { victim, .. } if victim.is_zero() => {
                "registrations of all other registrants removed".to_owned()
            }
            // The holder keeps its registration.
            Change::Preempted { sender, victim, .. } if sender == victim => format!(
                "preempted own key {victim}; other ports with this key have lost their \
                 registrations"
            ),
            Change::Preempted { victim, .. } => {
                format!("registrations with key {victim} removed")
            }
            Change::Moved { key, to } => format!("moved to {to}, registered with key {key}"),
        }
    }
}

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

impl ToJson for Change {
    fn to_json(&self) -> Json {
        object! {
            "service_action": labels::service_action(self.service_action()),
            "changed": self.is_changed(),
        }
    }
}
