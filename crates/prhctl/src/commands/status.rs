//! The commands that ask: PERSISTENT RESERVE IN.

use pr_helper_protocol::wire::MAX_TRANSFER;
use scsi_pr::{
    Capabilities, FullStatus, InServiceAction, Keys, ParameterDataError, ReservationData,
    Truncatable,
};

use crate::commands::release::Answer;
use crate::error::Error;
use crate::helper::Helper;

/// The allocation length to begin with: room for 127 keys, or 21 registrations of short names.
const FIRST_ALLOCATION: u16 = 1024;
/// The largest one that the protocol carries.
const LARGEST_ALLOCATION: u16 = 8192;
const _: () = assert!(LARGEST_ALLOCATION as usize == MAX_TRANSFER);

/// READ KEYS.
///
/// # Errors
///
/// Why there is no answer.
pub(crate) fn keys(helper: &mut Helper<'_>) -> Result<Truncatable<Keys>, Error> {
    list(helper, InServiceAction::ReadKeys, Keys::decode)
}

/// READ RESERVATION.
///
/// # Errors
///
/// Why there is no answer.
pub(crate) fn reservation(helper: &mut Helper<'_>) -> Result<ReservationData, Error> {
    one(
        helper,
        InServiceAction::ReadReservation,
        ReservationData::decode,
    )
}

/// REPORT CAPABILITIES.
///
/// # Errors
///
/// Why there is no answer.
pub(crate) fn capabilities(helper: &mut Helper<'_>) -> Result<Capabilities, Error> {
    one(
        helper,
        InServiceAction::ReportCapabilities,
        Capabilities::decode,
    )
}

/// Asks for what `action` stands for.
///
/// # Errors
///
/// Why there is no answer.
pub(crate) fn report(helper: &mut Helper<'_>, action: InServiceAction) -> Result<Answer, Error> {
    Ok(match action {
        InServiceAction::ReadKeys => Answer::Keys(keys(helper)?),
        InServiceAction::ReadReservation => Answer::Reservation(reservation(helper)?),
        InServiceAction::ReportCapabilities => Answer::Capabilities(capabilities(helper)?),
        InServiceAction::ReadFullStatus => {
            Answer::FullStatus(list(helper, action, FullStatus::decode)?)
        }
    })
}

/// Asks for data of a fixed length.
///
/// # Errors
///
/// Why there is no answer.
fn one<T>(
    helper: &mut Helper<'_>,
    action: InServiceAction,
    decode: impl Fn(&[u8]) -> Result<T, ParameterDataError>,
) -> Result<T, Error> {
    let data = helper.ask(action, FIRST_ALLOCATION)?;
    decode(&data).map_err(|source| malformed(helper, action, source))
}

/// Asks for a list, and again with more room as long as its end is missing and room is the reason.
///
/// # Errors
///
/// Why there is no answer.
fn list<T>(
    helper: &mut Helper<'_>,
    action: InServiceAction,
    decode: impl Fn(&[u8]) -> Result<Truncatable<T>, ParameterDataError>,
) -> Result<Truncatable<T>, Error> {
    let mut allocation = FIRST_ALLOCATION;
    loop {
        let data = helper.ask(action, allocation)?;
        let answer = decode(&data).map_err(|source| malformed(helper, action, source))?;
        // Each round has more room than the one before, so there is a last one.
        match larger(allocation, data.len().saturating_add(answer.missing)) {
            Some(more) if !answer.is_complete() => allocation = more,
            _ => return Ok(answer),
        }
    }
}

/// The allocation length for `needed` bytes, if that is more than the one used.
fn larger(used: u16, needed: usize) -> Option<u16> {
    let needed = u16::try_from(needed).unwrap_or(u16::MAX);
    Some(needed.min(LARGEST_ALLOCATION)).filter(|more| *more > used)
}

fn malformed(helper: &Helper<'_>, action: InServiceAction, source: ParameterDataError) -> Error {
    Error::Malformed {
        device: helper.device().path().to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_up_to_what_the_protocol_carries() {
        for (used, needed, expected) in [
            (1024, 1032, Some(1032)),
            (1024, 100_000, Some(8192)),
            (8192, 100_000, None),
            (1024, 1000, None),
        ] {
            assert_eq!(larger(used, needed), expected, "{needed}");
        }
    }
}
