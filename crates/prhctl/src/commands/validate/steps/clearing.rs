// SPDX-License-Identifier: MIT OR Apache-2.0

//! CLEAR.

use scsi_pr::ReservationType::WriteExclusiveRegistrantsOnly;
use scsi_pr::{AdditionalSense, ReservationType};

use super::super::command::clear;
use super::super::keys::{A, B};
use super::super::session::{Session, StepResult};
use super::Step;

const KIND: ReservationType = WriteExclusiveRegistrantsOnly;

pub(super) const STEPS: &[Step] = &[
    Step::one(
        "clear",
        "CLEAR removes all registrations and the reservation",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            session.good(A, clear(session.key(A)))?;
            session.skip_attentions(A)?;
            session.expect_keys(A, &[])?;
            session.expect_reservation(A, None)
        },
    ),
    Step::two(
        "clear-non-holder",
        "any registrant may send CLEAR",
        |session| {
            session.prepare_reservation(&[A, B], KIND)?;
            session.good(B, clear(session.key(B)))?;
            session.skip_attentions(B)?;
            session.expect_keys(B, &[])?;
            session.expect_reservation(B, None)
        },
    ),
    Step::two(
        "clear-attention",
        "CLEAR reports RESERVATIONS PREEMPTED to the other registrants, once",
        |session| {
            cleared(session)?;
            session.expect_attention(B, AdditionalSense::RESERVATIONS_PREEMPTED)?;
            session.expect_no_attention(B)
        },
    ),
    Step::two(
        "clear-attention-sender",
        "CLEAR reports no unit attention to its sender",
        |session| {
            cleared(session)?;
            session.expect_no_attention(A)
        },
    ),
    Step::two(
        "clear-unregistered",
        "CLEAR of an unregistered node is a RESERVATION CONFLICT",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            session.conflict(B, clear(session.key(B)))?;
            session.expect_keys(A, &[session.key(A)])
        },
    ),
];

/// A holds the reservation and sends CLEAR, as a preparation.
fn cleared(session: &mut Session<'_>) -> StepResult {
    session.prepare_reservation(&[A, B], KIND)?;
    session.prepare(A, clear(session.key(A)))
}
