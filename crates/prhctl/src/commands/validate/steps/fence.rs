// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of `fence_scsi` and `fence_mpath`, fence agents of Pacemaker clusters.
//!
//! Both reserve with type 5 and fence with PREEMPT AND ABORT. `fence_scsi` registers with REGISTER
//! AND IGNORE EXISTING KEY, `fence_mpath` with REGISTER, on all paths of a map.

use scsi_pr::ReservationType::WriteExclusiveRegistrantsOnly;
use scsi_pr::{ReservationKey, ReservationType};

use super::super::access::Access::Write;
use super::super::command::{preempt, register_ignore, reserve};
use super::super::keys::{A, B};
use super::reports::{aptpl, path_registration};
use super::{Needs, Step};

const KIND: ReservationType = WriteExclusiveRegistrantsOnly;

/// The steps of both agents.
pub(in super::super) const FENCE: &[Step] = &[
    Step::two(
        "fence-reserve",
        "one node reserves with type 5, and all registered nodes see its key and the reservation",
        |session| {
            session.prepare_registration(A)?;
            session.prepare_registration(B)?;
            let keys = [session.key(A), session.key(B)];
            session.good(A, reserve(session.key(A), KIND))?;
            session.expect_keys(B, &keys)?;
            session.expect_reservation(B, Some((session.key(A), KIND)))
        },
    ),
    Step::two(
        "fence-holder",
        "PREEMPT AND ABORT fences the node that holds the reservation, which its sender takes over",
        |session| {
            session.prepare_reservation(&[A, B], KIND)?;
            session.preempt_and_abort(B, session.key(A), KIND)?;
            session.skip_attentions(B)?;
            session.expect_keys(B, &[session.key(B)])?;
            session.expect_reservation(B, Some((session.key(B), KIND)))
        },
    ),
    Step::two(
        "fence-registrant",
        "PREEMPT AND ABORT fences a node that does not hold the reservation",
        |session| {
            session.prepare_reservation(&[A, B], KIND)?;
            session.preempt_and_abort(A, session.key(B), KIND)?;
            session.skip_attentions(A)?;
            session.expect_keys(A, &[session.key(A)])?;
            session.expect_reservation(A, Some((session.key(A), KIND)))
        },
    ),
    Step {
        needs: Needs::Write,
        ..Step::two(
            "fence-access",
            "a fenced node cannot write, and the other node can",
            |session| {
                session.prepare_reservation(&[A, B], KIND)?;
                session.expect_access(A, Write, true)?;
                session.preempt_and_abort(B, session.key(A), KIND)?;
                session.skip_attentions(A)?;
                session.expect_access(A, Write, false)?;
                session.expect_access(B, Write, true)
            },
        )
    },
];

/// The steps of `fence_scsi` only.
pub(in super::super) const FENCE_SCSI: &[Step] = &[
    Step::one(
        "fence_scsi-unfence",
        "REGISTER AND IGNORE EXISTING KEY registers a node, also a second time",
        |session| {
            let key = session.key(A);
            session.good(A, register_ignore(key))?;
            session.good(A, register_ignore(key))?;
            session.expect_keys(A, &[key])
        },
    ),
    Step::one(
        "fence_scsi-own-key",
        "PREEMPT of the holder's own key keeps its registration and reservation",
        |session| {
            session.prepare_reservation(&[A], KIND)?;
            let key = session.key(A);
            session.good(A, preempt(key, key, KIND))?;
            session.skip_attentions(A)?;
            session.expect_keys(A, &[key])?;
            session.expect_reservation(A, Some((key, KIND)))
        },
    ),
    Step::one(
        "aptpl",
        "APTPL is accepted if REPORT CAPABILITIES states PTPL_C, and then sets PTPL_A",
        aptpl,
    ),
];

/// The steps of `fence_mpath` only.
pub(in super::super) const FENCE_MPATH: &[Step] = &[
    Step::one(
        "fence_mpath-unfence",
        "REGISTER registers an unregistered node",
        |session| {
            let command = super::super::command::register(ReservationKey::ZERO, session.key(A));
            session.good(A, command)?;
            session.expect_keys(A, &[session.key(A)])
        },
    ),
    Step::one(
        "path-registration",
        "each path of a multipath map is registered",
        path_registration,
    ),
];
