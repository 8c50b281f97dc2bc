// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of a Windows failover cluster: its validation of the storage, and the owner of a
//! disk that defends it against a challenger.
//!
//! Windows registers with REGISTER AND IGNORE EXISTING KEY, and reserves a disk with type 5.
//! Storage Spaces uses type 7.

use scsi_pr::ReservationType::{WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly};
use scsi_pr::{ReservationKey, ReservationType};

use super::super::access::Access::{Read, Write};
use super::super::command::{clear, preempt, register, register_ignore, release, reserve};
use super::super::keys::{A, B};
use super::super::session::{Session, StepResult};
use super::{Needs, Step, with_type};

const KIND: ReservationType = WriteExclusiveRegistrantsOnly;

pub(in super::super) const WSFC: &[Step] = &[
    Step::one(
        "wsfc-register",
        "a node registers, and finds its key among those of the disk",
        |session| {
            let key = session.key(A);
            session.good(A, register_ignore(key))?;
            session.expect_keys(A, &[key])
        },
    ),
    Step::one(
        "wsfc-reserve",
        "a registered node reserves the disk with type 5, and repeats that",
        |session| {
            let key = session.key(A);
            session.prepare(A, register_ignore(key))?;
            session.good(A, reserve(key, KIND))?;
            session.good(A, reserve(key, KIND))?;
            session.expect_reservation(A, Some((key, KIND)))
        },
    ),
    Step::two(
        "wsfc-conflict",
        "the second node cannot reserve the disk, neither unregistered nor registered",
        |session| {
            owned(session)?;
            let command = reserve(session.key(B), KIND);
            session.conflict(B, command)?;
            session.prepare(B, register_ignore(session.key(B)))?;
            session.conflict(B, command)?;
            session.expect_reservation(B, Some((session.key(A), KIND)))
        },
    ),
    Step::two(
        "wsfc-defend",
        "the owner removes the key of a challenger, which then cannot preempt it",
        |session| {
            owned(session)?;
            session.prepare(B, register_ignore(session.key(B)))?;
            session.good(A, preempt(session.key(A), session.key(B), KIND))?;
            session.skip_attentions(B)?;
            session.conflict(B, preempt(session.key(B), session.key(A), KIND))?;
            session.skip_attentions(A)?;
            session.expect_reservation(A, Some((session.key(A), KIND)))
        },
    ),
    Step::two(
        "wsfc-challenge",
        "a challenger preempts an owner that does not defend the disk",
        |session| {
            challenged(session)?;
            session.expect_keys(B, &[session.key(B)])?;
            session.expect_reservation(B, Some((session.key(B), KIND)))?;
            session.skip_attentions(A)?;
            session.conflict(A, reserve(session.key(A), KIND))
        },
    ),
    Step::two(
        "wsfc-rejoin",
        "the node that lost the disk registers again, and cannot reserve it",
        |session| {
            challenged(session)?;
            session.skip_attentions(A)?;
            session.good(A, register_ignore(session.key(A)))?;
            session.conflict(A, reserve(session.key(A), KIND))?;
            session.expect_reservation(A, Some((session.key(B), KIND)))
        },
    ),
    Step::two(
        "wsfc-move",
        "the owner releases the disk and unregisters, and the second node reserves it",
        |session| {
            owned(session)?;
            session.prepare(B, register_ignore(session.key(B)))?;
            session.good(A, release(session.key(A), KIND))?;
            session.good(A, register(session.key(A), ReservationKey::ZERO))?;
            session.skip_attentions(B)?;
            session.good(B, reserve(session.key(B), KIND))?;
            session.expect_keys(B, &[session.key(B)])
        },
    ),
    Step::one(
        "wsfc-clear",
        "CLEAR removes a left-over reservation",
        |session| {
            owned(session)?;
            session.good(A, clear(session.key(A)))?;
            session.skip_attentions(A)?;
            session.expect_keys(A, &[])?;
            session.expect_reservation(A, None)
        },
    ),
    Step::two(
        "wsfc-storage-spaces",
        "a reservation with type 7 belongs to all nodes, and stays when its creator unregisters",
        |s| with_type(s, WriteExclusiveAllRegistrants, storage_spaces),
    ),
    Step {
        needs: Needs::Write,
        ..Step::two(
            "wsfc-access",
            "all registered nodes write to a shared volume (CSV), and no others",
            |session| {
                owned(session)?;
                session.expect_access(B, Write, false)?;
                session.prepare(B, register_ignore(session.key(B)))?;
                session.expect_access(A, Write, true)?;
                session.expect_access(B, Write, true)?;
                session.expect_access(B, Read, true)
            },
        )
    },
];

/// A registers and reserves, as a preparation.
fn owned(session: &mut Session<'_>) -> StepResult {
    let key = session.key(A);
    session.prepare(A, register_ignore(key))?;
    session.prepare(A, reserve(key, KIND))
}

/// B takes the disk from A.
fn challenged(session: &mut Session<'_>) -> StepResult {
    owned(session)?;
    session.prepare(B, register_ignore(session.key(B)))?;
    session.good(B, preempt(session.key(B), session.key(A), KIND))?;
    session.skip_attentions(B)
}

fn storage_spaces(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    for node in [A, B] {
        session.prepare(node, register_ignore(session.key(node)))?;
    }
    session.good(A, reserve(session.key(A), kind))?;
    session.good(B, reserve(session.key(B), kind))?;
    session.good(A, register(session.key(A), ReservationKey::ZERO))?;
    session.skip_attentions(B)?;
    session.expect_reservation(B, Some((session.key(B), kind)))
}
