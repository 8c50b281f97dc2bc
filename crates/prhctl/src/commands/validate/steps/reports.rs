// SPDX-License-Identifier: MIT OR Apache-2.0

//! READ KEYS, READ FULL STATUS, REPORT CAPABILITIES and PRgeneration.

use scsi_pr::ReservationType::WriteExclusiveRegistrantsOnly;
use scsi_pr::{AdditionalSense, OutServiceAction, PrGeneration, ReservationKey, Truncatable};

use super::super::command::{
    OutCommand, clear, preempt, register, register_ignore, release, reserve,
};
use super::super::keys::{A, B, NodeId};
use super::super::session::{Session, StepResult, Stop};
use super::Step;
use crate::scsi_path;

/// The steps that do not change the disk.
pub(super) const FIRST: &[Step] = &[
    Step::one(
        "read-keys",
        "READ KEYS of a disk without registrations returns none",
        |session| session.expect_keys(A, &[]),
    ),
    Step::one(
        "report-capabilities",
        "REPORT CAPABILITIES states the supported reservation types",
        |session| {
            if session.capabilities(A)?.type_mask.is_none() {
                session.warn("REPORT CAPABILITIES does not state the reservation types");
            }
            Ok(())
        },
    ),
];

/// The other steps.
pub(super) const STEPS: &[Step] = &[
    Step::two(
        "full-status",
        "READ FULL STATUS has one descriptor for each registration, with a valid TransportID",
        full_status,
    ),
    Step::two(
        "full-status-holder",
        "READ FULL STATUS marks the holder, and only the holder",
        full_status_holder,
    ),
    Step::one(
        "path-registration",
        "each path of a multipath map is registered",
        path_registration,
    ),
    Step::one(
        "aptpl",
        "APTPL is accepted if REPORT CAPABILITIES states PTPL_C, and then sets PTPL_A",
        aptpl,
    ),
    Step::one(
        "generation-register",
        "PRgeneration increases by one with REGISTER and REGISTER AND IGNORE EXISTING KEY",
        generation_register,
    ),
    Step::one(
        "generation-unregister",
        "PRgeneration increases by one when a registration is removed",
        generation_unregister,
    ),
    Step::one(
        "generation-reserve",
        "RESERVE, RELEASE and queries do not change PRgeneration",
        generation_reserve,
    ),
    Step::two(
        "generation-preempt",
        "PRgeneration increases by one with PREEMPT",
        generation_preempt,
    ),
    Step::one(
        "generation-clear",
        "PRgeneration increases by one with CLEAR",
        generation_clear,
    ),
];

fn full_status(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    session.prepare_registration(B)?;
    let status = session.read_full_status(A)?;
    let keys = session.read_keys(A)?;
    let failed = |text: String| Err(Stop::Failed(text));
    for key in [session.key(A), session.key(B)] {
        let count = |keys: &[ReservationKey]| keys.iter().filter(|one| **one == key).count();
        let described: Vec<_> = status.descriptors.iter().map(|one| one.key).collect();
        let (found, expected) = (count(&described), count(&keys.keys));
        if found != expected {
            return failed(format!(
                "A: READ FULL STATUS has {found} descriptors with key {key}, READ KEYS {expected}"
            ));
        }
    }
    let mut descriptors = status.descriptors.iter();
    if let Some(Err(malformed)) = descriptors
        .find(|one| one.transport_id.is_err())
        .map(|one| &one.transport_id)
    {
        return failed(format!(
            "A: READ FULL STATUS has the TransportID {malformed}"
        ));
    }
    match status.generation == keys.generation {
        true => Ok(()),
        false => failed("A: READ FULL STATUS and READ KEYS differ in PRgeneration".to_owned()),
    }
}

fn full_status_holder(session: &mut Session<'_>) -> StepResult {
    session.prepare_reservation(&[A, B], WriteExclusiveRegistrantsOnly)?;
    expect_holders(session, &[A])
}

/// Checks which nodes READ FULL STATUS marks as holders, and their type. One path of a map holds a
/// reservation that only one registrant holds.
pub(super) fn expect_holders(session: &mut Session<'_>, holders: &[NodeId]) -> StepResult {
    let descriptors = session.read_full_status(A)?.descriptors;
    for node in [A, B] {
        let key = session.key(node);
        let is_holder = descriptors.iter().any(|one| one.key == key && one.holder);
        if is_holder != holders.contains(&node) {
            let text = if is_holder { "is" } else { "is not" };
            let text = format!("A: by READ FULL STATUS, {node} {text} a holder of the reservation");
            return Err(Stop::Failed(text));
        }
    }
    Ok(())
}

pub(super) fn path_registration(session: &mut Session<'_>) -> StepResult {
    let Some(map) = session.map(A) else {
        return Err(Stop::NotTested("A is not a multipath map".to_owned()));
    };
    session.prepare_registration(A)?;
    let status = session.read_full_status(A)?;
    // No other node has this key.
    let key = session.key(A);
    let descriptors = status.descriptors.iter();
    let registered = descriptors.filter(|one| one.key == key).count();
    let status = Truncatable {
        value: status,
        missing: 0,
    };
    let paths = scsi_path::path_statuses(&map, &status);
    if registered >= paths.len() {
        return Ok(());
    }
    let unregistered = paths
        .iter()
        .filter(|path| path.is_registered == Some(false));
    let names: Vec<_> = unregistered.map(|path| path.name.as_str()).collect();
    let names = match names.is_empty() {
        true => String::new(),
        false => format!(", unregistered: {}", names.join(", ")),
    };
    let number = paths.len();
    Err(Stop::Failed(format!(
        "A: {registered} of {number} paths are registered{names}"
    )))
}

pub(super) fn aptpl(session: &mut Session<'_>) -> StepResult {
    let command = register(ReservationKey::ZERO, session.key(A)).with_aptpl();
    if !session.capabilities(A)?.persist_through_power_loss {
        session.illegal(A, command, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST)?;
        session.warn("registrations do not persist through a power loss of the device (PTPL_C)");
        return Ok(());
    }
    session.good(A, command)?;
    match session.capabilities(A)?.persist_through_power_loss_active {
        true => Ok(()),
        false => Err(Stop::Failed(
            "A: PTPL_A is not set after a REGISTER with APTPL".to_owned(),
        )),
    }
}

/// Sends a command that must increase PRgeneration by one. A map sends it to each path.
fn expect_increase(session: &mut Session<'_>, node: NodeId, command: OutCommand) -> StepResult {
    let before = session.generation(node)?;
    session.prepare(node, command)?;
    session.skip_attentions(node)?;
    let after = session.generation(node)?;
    expect_generation(session, node, command, before.next(), after)
}

fn expect_generation(
    session: &Session<'_>,
    node: NodeId,
    command: OutCommand,
    expected: PrGeneration,
    found: PrGeneration,
) -> StepResult {
    let is_of_paths = session.environment.has_map && command.action() != OutServiceAction::Reserve;
    let is_more = found.get().wrapping_sub(expected.get()) < 1 << 16;
    match found == expected || is_of_paths && is_more {
        true => Ok(()),
        false => Err(Stop::Failed(format!(
            "{node}: PRgeneration is {found} after {command}, expected {expected}"
        ))),
    }
}

fn generation_register(session: &mut Session<'_>) -> StepResult {
    let (key, new) = (session.key(A), session.new_key(A));
    expect_increase(session, A, register(ReservationKey::ZERO, key))?;
    expect_increase(session, A, register(key, new))?;
    expect_increase(session, A, register_ignore(key))
}

fn generation_unregister(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let command = register(session.key(A), ReservationKey::ZERO);
    expect_increase(session, A, command)
}

fn generation_reserve(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let (key, kind) = (session.key(A), WriteExclusiveRegistrantsOnly);
    let before = session.generation(A)?;
    for command in [reserve(key, kind), release(key, kind)] {
        session.prepare(A, command)?;
        session.skip_attentions(A)?;
        let after = session.generation(A)?;
        expect_generation(session, A, command, before, after)?;
    }
    Ok(())
}

fn generation_preempt(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    session.prepare_registration(B)?;
    let kind = WriteExclusiveRegistrantsOnly;
    let command = preempt(session.key(B), session.key(A), kind);
    expect_increase(session, B, command)
}

fn generation_clear(session: &mut Session<'_>) -> StepResult {
    session.prepare_registration(A)?;
    let command = clear(session.key(A));
    expect_increase(session, A, command)
}
