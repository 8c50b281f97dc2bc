// SPDX-License-Identifier: MIT OR Apache-2.0

//! REGISTER and REGISTER AND IGNORE EXISTING KEY.

use scsi_pr::ReservationKey;

use super::super::command::{register, register_ignore};
use super::super::keys::{A, B};
use super::super::session::{Session, StepResult, Stop};
use super::Step;

const NO_KEY: ReservationKey = ReservationKey::ZERO;

pub(super) const FIRST: &[Step] = &[Step::one(
    "register",
    "REGISTER creates a registration",
    register_first,
)];

/// The steps that check that both devices lead to one disk.
pub(in super::super) const SHARED: &[Step] = &[
    Step::two(
        "shared-registrations",
        "both nodes see the registration of one, so they lead to the same disk",
        shared_registrations,
    ),
    Step::two(
        "register-second-node",
        "a second node registers, and READ KEYS returns both keys",
        register_second_node,
    ),
];

pub(super) const STEPS: &[Step] = &[
    Step::one(
        "register-new-key",
        "REGISTER with the current key replaces it",
        register_new_key,
    ),
    Step::one(
        "register-stale-key",
        "REGISTER with a key that was replaced is a RESERVATION CONFLICT",
        register_stale_key,
    ),
    Step::one(
        "register-wrong-key",
        "REGISTER of an unregistered node with a key is a RESERVATION CONFLICT",
        register_wrong_key,
    ),
    Step::one(
        "register-ignore",
        "REGISTER AND IGNORE EXISTING KEY registers a key, whatever key was registered before",
        register_ignoring,
    ),
    Step::one(
        "unregister",
        "REGISTER with the new key zero removes the registration",
        unregister,
    ),
];

fn register_first(session: &mut Session<'_>) -> StepResult {
    let key = session.key(A);
    session.good(A, register(NO_KEY, key))?;
    session.expect_keys(A, &[key])
}

fn shared_registrations(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let key = session.key(A);
    match session.read_keys(B)?.keys.contains(&key) {
        true => Ok(()),
        false => Err(Stop::Failed(format!(
            "B: READ KEYS lacks key {key} of A: the devices are different disks, or the ports of \
             the disk do not share its registrations"
        ))),
    }
}

fn register_second_node(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let keys = [session.key(A), session.key(B)];
    // If both devices were one I_T nexus, it would be registered already.
    session.good(B, register(NO_KEY, session.key(B)))?;
    session.expect_keys(A, &keys)?;
    session.expect_keys(B, &keys)
}

fn register_new_key(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let (key, new) = (session.key(A), session.new_key(A));
    session.good(A, register(key, new))?;
    session.expect_keys(A, &[new])
}

fn register_stale_key(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let (key, new) = (session.key(A), session.new_key(A));
    session.prepare(A, register(key, new))?;
    session.conflict(A, register(key, key))?;
    session.conflict(A, register(NO_KEY, key))?;
    session.expect_keys(A, &[new])
}

fn register_wrong_key(session: &mut Session<'_>) -> StepResult {
    session.conflict(A, register(session.unknown_key(), session.key(A)))?;
    session.expect_keys(A, &[])
}

fn register_ignoring(session: &mut Session<'_>) -> StepResult {
    let (key, new) = (session.key(A), session.new_key(A));
    session.good(A, register_ignore(key))?;
    session.good(A, register_ignore(new))?;
    session.expect_keys(A, &[new])
}

fn unregister(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    session.good(A, register(session.key(A), NO_KEY))?;
    session.expect_keys(A, &[])
}
