// SPDX-License-Identifier: MIT OR Apache-2.0

//! READ and WRITE while the disk is reserved.

use scsi_pr::ReservationType;
use scsi_pr::ReservationType::{
    ExclusiveAccess, ExclusiveAccessAllRegistrants, ExclusiveAccessRegistrantsOnly, WriteExclusive,
    WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly,
};

use super::super::access::Access::{Read, Write};
use super::super::keys::{A, B};
use super::super::session::{Session, StepResult};
use super::{Needs, Step, with_type};

pub(super) const STEPS: &[Step] = &[
    step("access-we", |s| with_type(s, WriteExclusive, access)),
    step("access-ea", |s| with_type(s, ExclusiveAccess, access)),
    step("access-we-ro", |s| {
        with_type(s, WriteExclusiveRegistrantsOnly, access)
    }),
    step("access-ea-ro", |s| {
        with_type(s, ExclusiveAccessRegistrantsOnly, access)
    }),
    step("access-we-ar", |s| {
        with_type(s, WriteExclusiveAllRegistrants, access)
    }),
    step("access-ea-ar", |s| {
        with_type(s, ExclusiveAccessAllRegistrants, access)
    }),
];

const fn step(name: &'static str, run: fn(&mut Session<'_>) -> StepResult) -> Step {
    Step {
        name,
        rule: "the disk executes READ and WRITE of the nodes that the type allows, and no others",
        needs: Needs::Write,
        run,
    }
}

fn access(session: &mut Session<'_>, kind: ReservationType) -> StepResult {
    session.prepare_reservation(&[A], kind)?;
    session.expect_access(A, Write, true)?;
    session.expect_access(A, Read, true)?;
    session.expect_access(B, Write, false)?;
    session.expect_access(B, Read, kind.is_write_exclusive())?;
    session.prepare_registration(B)?;
    let may_write = kind.allows_registrants();
    session.expect_access(B, Write, may_write)?;
    session.expect_access(B, Read, may_write || kind.is_write_exclusive())
}
