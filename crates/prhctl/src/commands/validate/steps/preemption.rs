// SPDX-License-Identifier: MIT OR Apache-2.0

//! PREEMPT and PREEMPT AND ABORT.

use scsi_pr::ReservationType::{
    ExclusiveAccessRegistrantsOnly, WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly,
};
use scsi_pr::{AdditionalSense, ReservationKey, ReservationType};

use super::super::command::{preempt, register};
use super::super::keys::{A, B};
use super::super::session::{Session, StepResult};
use super::{Step, with_type};

const KIND: ReservationType = WriteExclusiveRegistrantsOnly;

pub(super) const STEPS: &[Step] = &[
    Step::two(
        "preempt-keys",
        "PREEMPT removes the registrations with the victim's key",
        |session| {
            preempted(session)?;
            session.skip_attentions(B)?;
            session.expect_keys(B, &[session.key(B)])
        },
    ),
    Step::two(
        "preempt-holder",
        "PREEMPT of the holder makes its sender the holder",
        |session| {
            preempted(session)?;
            session.skip_attentions(B)?;
            session.expect_reservation(B, Some((session.key(B), KIND)))
        },
    ),
    Step::two(
        "preempt-attention",
        "PREEMPT reports REGISTRATIONS PREEMPTED to the victim",
        |session| {
            preempted(session)?;
            session.expect_attention(A, AdditionalSense::REGISTRATIONS_PREEMPTED)
        },
    ),
    Step::two(
        "preempt-attention-once",
        "PREEMPT reports REGISTRATIONS PREEMPTED to the victim only once",
        |session| {
            preempted(session)?;
            session.expect_attention(A, AdditionalSense::REGISTRATIONS_PREEMPTED)?;
            session.expect_no_attention(A)
        },
    ),
    Step::two(
        "preempt-attention-sender",
        "PREEMPT reports no unit attention to its sender",
        |session| {
            preempted(session)?;
            session.expect_no_attention(B)
        },
    ),
    Step::two(
        "preempt-again",
        "a victim registers again, and does not get the reservation back",
        |session| {
            preempted(session)?;
            session.skip_attentions(A)?;
            session.good(A, register(ReservationKey::ZERO, session.key(A)))?;
            session.expect_reservation(A, Some((session.key(B), KIND)))
        },
    ),
    Step::two(
        "preempt-registrant",
        "PREEMPT of a registrant that is not the holder keeps the reservation",
        preempt_registrant,
    ),
    Step::two(
        "preempt-type",
        "PREEMPT of the holder gives the reservation the requested type",
        |s| with_type(s, ExclusiveAccessRegistrantsOnly, preempt_type),
    ),
    Step::two(
        "preempt-all-registrants",
        "PREEMPT of key 0 with an \"all registrants\" type removes all other registrations",
        |s| with_type(s, WriteExclusiveAllRegistrants, preempt_all_registrants),
    ),
    Step::two(
        "preempt-zero",
        "PREEMPT of key 0 with other types is an INVALID FIELD IN PARAMETER LIST",
        |session| {
            session.prepare_reservation(&[A, B], KIND)?;
            let command = preempt(session.key(B), ReservationKey::ZERO, KIND);
            let code = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
            session.illegal(B, command, code)?;
            session.expect_reservation(B, Some((session.key(A), KIND)))
        },
    ),
    Step::one(
        "preempt-unknown-key",
        "PREEMPT of a key that is not registered is a RESERVATION CONFLICT",
        |session| {
            session.prepare_registration(A)?;
            let command = preempt(session.key(A), session.unknown_key(), KIND);
            session.conflict(A, command)?;
            session.expect_keys(A, &[session.key(A)])
        },
    ),
    Step::two(
        "preempt-unregistered",
        "PREEMPT of an unregistered node is a RESERVATION CONFLICT",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            session.conflict(B, preempt(session.key(B), session.key(A), KIND))?;
            session.expect_keys(A, &[session.key(A)])
        },
    ),
    Step::two(
        "preempt-and-abort",
        "PREEMPT AND ABORT removes the victim's registration and takes over its reservation",
        preempt_and_abort,
    ),
];

/// B preempts A, the holder, as a preparation.
fn preempted(session: &mut Session<'_>) -> StepResult {
    session.prepare_reservation(&[A, B], KIND)?;
    session.prepare(B, preempt(session.key(B), session.key(A), KIND))
}

fn preempt_registrant(session: &mut Session<'_>) -> StepResult {
    session.prepare_reservation(&[A, B], KIND)?;
    let holder = session.key(A);
    session.good(A, preempt(holder, session.key(B), KIND))?;
    session.skip_attentions(A)?;
    session.expect_keys(A, &[holder])?;
    session.expect_reservation(A, Some((holder, KIND)))
}

fn preempt_type(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], KIND)?;
    session.good(B, preempt(session.key(B), session.key(A), kind))?;
    session.skip_attentions(B)?;
    session.expect_reservation(B, Some((session.key(B), kind)))
}

fn preempt_all_registrants(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.good(B, preempt(session.key(B), ReservationKey::ZERO, kind))?;
    session.skip_attentions(B)?;
    session.expect_keys(B, &[session.key(B)])?;
    session.expect_reservation(B, Some((session.key(B), kind)))
}

fn preempt_and_abort(session: &mut Session<'_>) -> StepResult {
    session.prepare_reservation(&[A, B], KIND)?;
    session.preempt_and_abort(B, session.key(A), KIND)?;
    session.skip_attentions(B)?;
    session.expect_keys(B, &[session.key(B)])?;
    session.expect_reservation(B, Some((session.key(B), KIND)))
}
