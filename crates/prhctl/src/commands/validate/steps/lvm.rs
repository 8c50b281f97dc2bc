// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of LVM for volume groups with persistent reservations (lvmpersist): a volume group
//! of one host, and one that hosts share, which has type 7 by default.

use scsi_pr::ReservationType::{
    ExclusiveAccessAllRegistrants, WriteExclusive, WriteExclusiveAllRegistrants,
    WriteExclusiveRegistrantsOnly,
};
use scsi_pr::{ReservationKey, ReservationType};

use super::super::command::{clear, register, reserve};
use super::super::keys::{A, B, NodeId};
use super::super::session::{Session, StepResult, Stop};
use super::{Step, with_type};

pub(in super::super) const LVM: &[Step] = &[
    Step::one(
        "lvm-types",
        "REPORT CAPABILITIES states the types that LVM reserves with",
        |session| match session.capabilities(A)?.type_mask {
            Some(mask) if mask.contains(WriteExclusiveAllRegistrants) => Ok(()),
            _ => Err(Stop::Failed(
                "A: REPORT CAPABILITIES does not state the type we-ar".to_owned(),
            )),
        },
    ),
    Step::one(
        "lvm-start-we",
        "a host registers and reserves its volume group with type 1",
        |s| with_type(s, WriteExclusive, |s, kind| started(s, A, kind)),
    ),
    Step::one(
        "lvm-start-we-ro",
        "a host registers and reserves its volume group with type 5",
        |s| {
            with_type(s, WriteExclusiveRegistrantsOnly, |s, kind| {
                started(s, A, kind)
            })
        },
    ),
    Step::two(
        "lvm-conflict",
        "a second host cannot reserve the volume group of another host",
        |s| with_type(s, WriteExclusive, conflict),
    ),
    Step::two(
        "lvm-take-over",
        "a host removes the key of a failed host with PREEMPT AND ABORT, and takes over",
        |s| with_type(s, WriteExclusive, take_over),
    ),
    Step::two(
        "lvm-shared-we-ar",
        "two hosts start a shared volume group with type 7",
        |s| with_type(s, WriteExclusiveAllRegistrants, shared),
    ),
    Step::two(
        "lvm-shared-ea-ar",
        "two hosts start a shared volume group with type 8",
        |s| with_type(s, ExclusiveAccessAllRegistrants, shared),
    ),
    Step::two(
        "lvm-remove",
        "a host removes the key of another host of a shared volume group, which stays reserved",
        |s| with_type(s, WriteExclusiveAllRegistrants, removed),
    ),
    Step::two(
        "lvm-stop",
        "a shared volume group stays reserved until the last host unregisters",
        |s| with_type(s, WriteExclusiveAllRegistrants, stopped),
    ),
    Step::one(
        "lvm-clear",
        "CLEAR removes all keys and the reservation",
        |session| {
            session.prepare_reservation(&[A], WriteExclusiveRegistrantsOnly)?;
            session.good(A, clear(session.key(A)))?;
            session.skip_attentions(A)?;
            session.expect_keys(A, &[])?;
            session.expect_reservation(A, None)
        },
    ),
];

/// Registers and reserves, and checks the type.
fn started(session: &mut Session<'_>, node: NodeId, kind: ReservationType) -> StepResult {
    let key = session.key(node);
    session.good(node, register(ReservationKey::ZERO, key))?;
    session.good(node, reserve(key, kind))?;
    session.expect_reservation(node, Some((key, kind)))
}

fn conflict(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.conflict(B, reserve(session.key(B), kind))?;
    session.expect_reservation(B, Some((session.key(A), kind)))
}

fn take_over(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.preempt_and_abort(B, session.key(A), kind)?;
    session.skip_attentions(B)?;
    session.expect_keys(B, &[session.key(B)])?;
    session.expect_reservation(B, Some((session.key(B), kind)))
}

fn shared(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    started(session, A, kind)?;
    started(session, B, kind)?;
    session.expect_keys(A, &[session.key(A), session.key(B)])
}

fn removed(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.preempt_and_abort(A, session.key(B), kind)?;
    session.skip_attentions(A)?;
    session.expect_keys(A, &[session.key(A)])?;
    session.expect_reservation(A, Some((session.key(A), kind)))
}

fn stopped(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A, B], kind)?;
    session.good(A, register(session.key(A), ReservationKey::ZERO))?;
    session.skip_attentions(B)?;
    session.expect_reservation(B, Some((session.key(B), kind)))?;
    session.good(B, register(session.key(B), ReservationKey::ZERO))?;
    session.expect_reservation(B, None)
}
