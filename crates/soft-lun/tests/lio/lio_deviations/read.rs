// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deviations of PERSISTENT RESERVE IN.

use scsi_pr::{AdditionalSense, InServiceAction};

use super::case::Case;
use crate::command::{Command, Step};
use crate::model::{Outcome, good};

/// Lengths in bytes of a header, of a key, and of a full status descriptor with a SAS TransportID.
const HEADER: usize = 8;
const KEY: usize = 8;
const DESCRIPTOR: usize = 48;
/// Length of the TransportID alone in bytes: LIO checks that there is room for it only.
const TRANSPORT_ID: usize = 24;
/// Length of READ RESERVATION data up to SCOPE and TYPE, in bytes.
const UP_TO_TYPE: usize = 22;
/// `CRH` in byte 2 of REPORT CAPABILITIES.
const CRH: u8 = 0x10;

/// Returns ALLOCATION LENGTH if the command has this service action.
fn allocation_length(case: &Case<'_>, action: InServiceAction) -> Option<usize> {
    let (code, length) = case.reserve_in()?;
    (code == action.code()).then_some(length)
}

/// Returns the complete parameter data of soft-lun for the command.
fn complete_data(case: &Case<'_>) -> Option<Vec<u8>> {
    let (action, _) = case.reserve_in()?;
    let step = Step {
        node: case.node(),
        command: Command::In {
            action,
            length: u16::MAX,
        },
    };
    Some(case.model.soft_lun_outcome(&step).response.data)
}

/// Returns the outcome with data that is truncated to the allocation length.
fn truncated(case: &Case<'_>, mut data: Vec<u8>, length: usize) -> Option<Outcome> {
    data.truncate(length);
    case.respond(good(data))
}

pub(super) fn short_allocation(case: &Case<'_>) -> Option<Outcome> {
    let (action, length) = case.reserve_in()?;
    let least = match InServiceAction::from_code(action)? {
        InServiceAction::ReportCapabilities => 6,
        _ => HEADER,
    };
    (length < least).then(|| case.illegal(AdditionalSense::INVALID_FIELD_IN_CDB))?
}

pub(super) fn partial_key(case: &Case<'_>) -> Option<Outcome> {
    let length = allocation_length(case, InServiceAction::ReadKeys)?;
    let mut data = complete_data(case)?;
    let whole = HEADER + (length - HEADER) / KEY * KEY;
    data.iter_mut().skip(whole).for_each(|byte| *byte = 0);
    truncated(case, data, length)
}

pub(super) fn partial_reservation(case: &Case<'_>) -> Option<Outcome> {
    let length = allocation_length(case, InServiceAction::ReadReservation)?;
    let mut data = complete_data(case)?;
    if length < UP_TO_TYPE {
        data.iter_mut().skip(HEADER).for_each(|byte| *byte = 0);
    }
    truncated(case, data, length)
}

pub(super) fn descriptors_that_fit(case: &Case<'_>) -> Option<Outcome> {
    let length = allocation_length(case, InServiceAction::ReadFullStatus)?;
    let mut data = complete_data(case)?;
    let descriptors = (data.len() - HEADER) / DESCRIPTOR;
    let listed = (0..descriptors)
        .take_while(|before| before * DESCRIPTOR + TRANSPORT_ID <= length)
        .count();
    let listed = listed * DESCRIPTOR;
    data.truncate(HEADER + listed);
    data[4..HEADER].copy_from_slice(&u32::try_from(listed).unwrap().to_be_bytes());
    truncated(case, data, length)
}

pub(super) fn compatible_reservation_handling(case: &Case<'_>) -> Option<Outcome> {
    let length = allocation_length(case, InServiceAction::ReportCapabilities)?;
    let mut data = complete_data(case)?;
    data[2] |= CRH;
    truncated(case, data, length)
}
