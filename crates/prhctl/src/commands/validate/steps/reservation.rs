// SPDX-License-Identifier: MIT OR Apache-2.0

//! RESERVE, and the holders of the reservation.

use scsi_pr::ReservationType::{
    ExclusiveAccess, ExclusiveAccessAllRegistrants, ExclusiveAccessRegistrantsOnly, WriteExclusive,
    WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly,
};
use scsi_pr::{AdditionalSense, ReservationKey, ReservationType};

use super::super::command::{register, reserve};
use super::super::keys::{A, B};
use super::super::session::{Session, StepResult};
use super::reports::expect_holders;
use super::{Step, with_type};

pub(super) const STEPS: &[Step] = &[
    reserve_step("reserve-we", |s| with_type(s, WriteExclusive, reserved)),
    reserve_step("reserve-ea", |s| with_type(s, ExclusiveAccess, reserved)),
    reserve_step("reserve-we-ro", |s| {
        with_type(s, WriteExclusiveRegistrantsOnly, reserved)
    }),
    reserve_step("reserve-ea-ro", |s| {
        with_type(s, ExclusiveAccessRegistrantsOnly, reserved)
    }),
    reserve_step("reserve-we-ar", |s| {
        with_type(s, WriteExclusiveAllRegistrants, reserved)
    }),
    reserve_step("reserve-ea-ar", |s| {
        with_type(s, ExclusiveAccessAllRegistrants, reserved)
    }),
    conflict_step("reserve-conflict-we", |s| {
        with_type(s, WriteExclusive, conflicts)
    }),
    conflict_step("reserve-conflict-ea", |s| {
        with_type(s, ExclusiveAccess, conflicts)
    }),
    conflict_step("reserve-conflict-we-ro", |s| {
        with_type(s, WriteExclusiveRegistrantsOnly, conflicts)
    }),
    conflict_step("reserve-conflict-ea-ro", |s| {
        with_type(s, ExclusiveAccessRegistrantsOnly, conflicts)
    }),
    conflict_step("reserve-conflict-we-ar", |s| {
        with_type(s, WriteExclusiveAllRegistrants, conflicts)
    }),
    conflict_step("reserve-conflict-ea-ar", |s| {
        with_type(s, ExclusiveAccessAllRegistrants, conflicts)
    }),
    Step::one(
        "reserve-unregistered",
        "RESERVE of an unregistered node is a RESERVATION CONFLICT, also without a reservation",
        |session| {
            let command = reserve(session.key(A), WriteExclusiveRegistrantsOnly);
            session.conflict(A, command)?;
            session.expect_reservation(A, None)
        },
    ),
    Step::one(
        "reserve-wrong-key",
        "RESERVE with a wrong key is a RESERVATION CONFLICT",
        |session| {
            session.prepare_registration(A)?;
            let command = reserve(session.unknown_key(), WriteExclusiveRegistrantsOnly);
            session.conflict(A, command)?;
            session.expect_reservation(A, None)
        },
    ),
    Step::two(
        "all-registrants-holders",
        "all registrants hold a reservation with an \"all registrants\" type",
        |s| with_type(s, WriteExclusiveAllRegistrants, all_registrants_holders),
    ),
    Step::two(
        "all-registrants-last",
        "a reservation with an \"all registrants\" type ends with its last registrant",
        |s| with_type(s, WriteExclusiveAllRegistrants, all_registrants_last),
    ),
    Step::two(
        "unregister-holder",
        "the reservation ends with its holder's registration, and other registrants get \
         RESERVATIONS RELEASED",
        unregister_holder,
    ),
];

const fn reserve_step(name: &'static str, run: fn(&mut Session<'_>) -> StepResult) -> Step {
    let rule = "RESERVE makes a reservation of the requested type, and the holder may repeat it";
    Step::one(name, rule, run)
}

const fn conflict_step(name: &'static str, run: fn(&mut Session<'_>) -> StepResult) -> Step {
    let rule = "RESERVE of a node that does not hold the reservation is a RESERVATION CONFLICT";
    Step::two(name, rule, run)
}

fn reserved(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_registration(A)?;
    let key = session.key(A);
    session.good(A, reserve(key, kind))?;
    session.expect_reservation(A, Some((key, kind)))?;
    session.good(A, reserve(key, kind))?;
    session.expect_reservation(A, Some((key, kind)))
}

/// Another registrant holds a reservation with an "all registrants" type as well, so it may repeat
/// the reservation, but not change its type.
fn conflicts(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    let (key, other) = (session.key(B), other_type(kind));
    match kind.is_all_registrants() {
        true => session.good(B, reserve(key, kind))?,
        false => session.conflict(B, reserve(key, kind))?,
    }
    session.conflict(B, reserve(key, other))?;
    session.expect_reservation(B, Some((session.key(A), kind)))
}

/// Returns a type that differs from `kind` and that most devices support.
pub(super) const fn other_type(kind: ReservationType) -> ReservationType {
    match kind {
        WriteExclusiveRegistrantsOnly => WriteExclusive,
        _ => WriteExclusiveRegistrantsOnly,
    }
}

fn all_registrants_holders(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.expect_reservation(B, Some((ReservationKey::ZERO, kind)))?;
    expect_holders(session, &[A, B])
}

fn all_registrants_last(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.good(A, register(session.key(A), ReservationKey::ZERO))?;
    session.expect_reservation(B, Some((ReservationKey::ZERO, kind)))?;
    session.good(B, register(session.key(B), ReservationKey::ZERO))?;
    session.expect_reservation(B, None)
}

fn unregister_holder(session: &mut Session<'_>) -> StepResult {
    session.prepare_reservation(&[A, B], WriteExclusiveRegistrantsOnly)?;
    session.good(A, register(session.key(A), ReservationKey::ZERO))?;
    session.expect_attention(B, AdditionalSense::RESERVATIONS_RELEASED)?;
    session.expect_reservation(A, None)?;
    session.expect_keys(A, &[session.key(B)])
}
