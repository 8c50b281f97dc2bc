//! Departures of PERSISTENT RESERVE IN.

use scsi_pr::{AdditionalSense, InServiceAction};

use super::situation::Situation;
use crate::command::{Command, Step};
use crate::model::{Outcome, good};

/// Bytes of a header, of a key, and of a full status descriptor with a SAS TransportID.
const HEADER: usize = 8;
const KEY: usize = 8;
const DESCRIPTOR: usize = 48;
/// Bytes of the TransportID alone: all that LIO wants to have room for.
const TRANSPORT_ID: usize = 24;
/// READ RESERVATION up to SCOPE and TYPE.
const UP_TO_TYPE: usize = 22;
/// `CRH` in byte 2 of REPORT CAPABILITIES.
const CRH: u8 = 0x10;

/// The ALLOCATION LENGTH of a command with this service action.
fn asked(s: &Situation<'_>, action: InServiceAction) -> Option<usize> {
    let (code, length) = s.question()?;
    (code == action.code()).then_some(length)
}

/// The whole of the parameter data that soft-lun has for the command.
fn complete(s: &Situation<'_>) -> Option<Vec<u8>> {
    let (action, _) = s.question()?;
    let step = Step {
        side: s.side(),
        command: Command::In {
            action,
            length: u16::MAX,
        },
    };
    Some(s.model.standard(&step).answer.data)
}

/// Cut off at the allocation length.
fn cut(s: &Situation<'_>, mut data: Vec<u8>, length: usize) -> Option<Outcome> {
    data.truncate(length);
    s.answer(good(data))
}

pub(super) fn short_allocation(s: &Situation<'_>) -> Option<Outcome> {
    let (action, length) = s.question()?;
    let least = match InServiceAction::from_code(action)? {
        InServiceAction::ReportCapabilities => 6,
        _ => HEADER,
    };
    (length < least).then(|| s.illegal(AdditionalSense::INVALID_FIELD_IN_CDB))?
}

pub(super) fn partial_key(s: &Situation<'_>) -> Option<Outcome> {
    let length = asked(s, InServiceAction::ReadKeys)?;
    let mut data = complete(s)?;
    let whole = HEADER + (length - HEADER) / KEY * KEY;
    data.iter_mut().skip(whole).for_each(|byte| *byte = 0);
    cut(s, data, length)
}

pub(super) fn partial_reservation(s: &Situation<'_>) -> Option<Outcome> {
    let length = asked(s, InServiceAction::ReadReservation)?;
    let mut data = complete(s)?;
    if length < UP_TO_TYPE {
        data.iter_mut().skip(HEADER).for_each(|byte| *byte = 0);
    }
    cut(s, data, length)
}

pub(super) fn descriptors_that_fit(s: &Situation<'_>) -> Option<Outcome> {
    let length = asked(s, InServiceAction::ReadFullStatus)?;
    let mut data = complete(s)?;
    let descriptors = (data.len() - HEADER) / DESCRIPTOR;
    let listed = (0..descriptors)
        .take_while(|before| before * DESCRIPTOR + TRANSPORT_ID <= length)
        .count();
    let listed = listed * DESCRIPTOR;
    data.truncate(HEADER + listed);
    data[4..HEADER].copy_from_slice(&u32::try_from(listed).unwrap().to_be_bytes());
    cut(s, data, length)
}

pub(super) fn compatible_reservation_handling(s: &Situation<'_>) -> Option<Outcome> {
    let length = asked(s, InServiceAction::ReportCapabilities)?;
    let mut data = complete(s)?;
    data[2] |= CRH;
    cut(s, data, length)
}
