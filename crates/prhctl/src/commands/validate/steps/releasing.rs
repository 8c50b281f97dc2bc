// SPDX-License-Identifier: MIT OR Apache-2.0

//! RELEASE.

use scsi_pr::ReservationType::{WriteExclusive, WriteExclusiveRegistrantsOnly};
use scsi_pr::{AdditionalSense, ReservationType};

use super::super::command::release;
use super::super::keys::{A, B, NodeId};
use super::super::session::{Session, StepResult};
use super::Step;
use super::reservation::other_type;

const KIND: ReservationType = WriteExclusiveRegistrantsOnly;

pub(super) const STEPS: &[Step] = &[
    Step::one(
        "release",
        "RELEASE of the holder ends the reservation, and keeps the registrations",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            session.good(A, release(session.key(A), KIND))?;
            session.skip_attentions(A)?;
            session.expect_reservation(A, None)?;
            session.expect_keys(A, &[session.key(A)])
        },
    ),
    Step::two(
        "release-attention",
        "RELEASE of a type for registrants reports RESERVATIONS RELEASED to the others, once",
        |session| {
            released(session, &[A, B], KIND)?;
            session.expect_attention(B, AdditionalSense::RESERVATIONS_RELEASED)?;
            session.expect_no_attention(B)
        },
    ),
    Step::two(
        "release-attention-sender",
        "RELEASE reports no unit attention to its sender",
        |session| {
            released(session, &[A, B], KIND)?;
            session.expect_no_attention(A)
        },
    ),
    Step::two(
        "release-attention-we",
        "RELEASE of a type for one holder reports no unit attention",
        |session| {
            released(session, &[A, B], WriteExclusive)?;
            session.expect_no_attention(B)
        },
    ),
    Step::two(
        "release-non-holder",
        "RELEASE of a registrant that is not the holder ends with GOOD and releases nothing",
        |session| {
            session.prepare_reservation(&[A, B], KIND)?;
            session.good(B, release(session.key(B), KIND))?;
            expect_unchanged(session, B)
        },
    ),
    Step::two(
        "release-unregistered",
        "RELEASE of an unregistered node is a RESERVATION CONFLICT",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            session.conflict(B, release(session.key(B), KIND))?;
            expect_unchanged(session, A)
        },
    ),
    Step::one(
        "release-wrong-key",
        "RELEASE of the holder with a wrong key is a RESERVATION CONFLICT",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            session.conflict(A, release(session.unknown_key(), KIND))?;
            expect_unchanged(session, A)
        },
    ),
    Step::one(
        "release-wrong-type",
        "RELEASE of the holder with another type is an INVALID RELEASE OF PERSISTENT RESERVATION",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            let command = release(session.key(A), other_type(KIND));
            let code = AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION;
            session.illegal(A, command, code)?;
            expect_unchanged(session, A)
        },
    ),
];

/// Reserves and releases through the first node, as a preparation.
fn released(session: &mut Session<'_>, nodes: &[NodeId], kind: ReservationType) -> StepResult {
    session.prepare_reservation(nodes, kind)?;
    session.prepare(A, release(session.key(A), kind))
}

/// Checks that A still holds the reservation.
fn expect_unchanged(session: &mut Session<'_>, node: NodeId) -> StepResult {
    session.expect_reservation(node, Some((session.key(A), KIND)))
}
