//! The fields of parameter data (SPC-4, 6.15.2 to 6.15.5).

use scsi_pr::{
    Capabilities, FullStatus, InServiceAction, Keys, ReservationData, Truncatable, TypeMask,
};

use super::fields::{Fields, IGNORED, count, plain};
use super::parameters::{rest, scope_and_type, transport_id};
use super::said;

/// What `action` is answered with: its fields, and what it says.
pub(super) fn explain(
    fields: &mut Fields<'_>,
    action: InServiceAction,
    bytes: &[u8],
) -> Result<String, String> {
    // Where data end too early, their own error, or "cut off", says so.
    match action {
        InServiceAction::ReadKeys => {
            let _ = keys(fields);
            said(Keys::decode(bytes))
        }
        InServiceAction::ReadReservation => {
            let _ = reservation(fields);
            said(ReservationData::decode(bytes))
        }
        InServiceAction::ReportCapabilities => {
            let _ = capabilities(fields);
            said(Capabilities::decode(bytes))
        }
        InServiceAction::ReadFullStatus => {
            let _ = full_status(fields);
            let decoded = FullStatus::decode(bytes);
            let malformed = decoded.as_ref().ok().and_then(nameless);
            malformed.map_or_else(|| said(decoded), Err)
        }
    }
}

/// What is wrong with the first registrant that has no name, if there is one.
fn nameless(status: &Truncatable<FullStatus>) -> Option<String> {
    let mut descriptors = status.value.descriptors.iter();
    descriptors.find_map(|descriptor| {
        let error = descriptor.transport_id.as_ref().err()?.error();
        Some(format!(
            "TransportID of the registration with key {}: {error}",
            descriptor.key
        ))
    })
}

/// Gives where the list ends, as a number of bytes that are left behind it.
fn header(fields: &mut Fields<'_>) -> Option<usize> {
    fields.number("PRGENERATION", 4, plain)?;
    let length = fields.number("ADDITIONAL LENGTH", 4, count)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Some(fields.left().saturating_sub(length))
}

fn keys(fields: &mut Fields<'_>) -> Option<()> {
    let behind = header(fields)?;
    while fields.left() >= behind.saturating_add(8) {
        fields.number("RESERVATION KEY", 8, plain)?;
    }
    rest(fields)
}

fn reservation(fields: &mut Fields<'_>) -> Option<()> {
    let behind = header(fields)?;
    if fields.left() > behind {
        fields.number("RESERVATION KEY", 8, |key| match key {
            0 => "all registrants hold it".to_owned(),
            _ => "the holder's".to_owned(),
        })?;
        fields.reserved(5)?;
        scope_and_type(fields, true)?;
        fields.reserved(2)?;
    }
    rest(fields)
}

fn capabilities(fields: &mut Fields<'_>) -> Option<()> {
    fields.number("LENGTH", 2, count)?;
    let first = fields.byte()?;
    fields.flags(
        first,
        [
            ("RLR_C", 7, "knows REPLACE LOST RESERVATION"),
            (
                "CRH",
                4,
                "RESERVE and RELEASE of SPC-2 succeed for the holder",
            ),
            ("SIP_C", 3, "registers other initiator ports (SPEC_I_PT)"),
            (
                "ATP_C",
                2,
                "registers at all target ports at once (ALL_TG_PT)",
            ),
            ("PTPL_C", 0, "can keep registrations when power is lost"),
        ],
    );
    let second = fields.byte()?;
    let says = "says which types it knows";
    fields.flags(second, [("TMV", 7, says)]);
    let allowed = match second >> 4 & 7 {
        0 => "does not say which commands a reservation lets pass",
        1 => "lets TEST UNIT READY pass, and does not say which others",
        _ => "see SPC-4, 6.15.4",
    };
    let row = second >> 4 & 7;
    fields.bits("ALLOW COMMANDS", (6, 4), row, allowed.to_owned());
    fields.flags(second, [("PTPL_A", 0, "keeps them now")]);
    fields.number("PERSISTENT RESERVATION TYPE MASK", 2, |mask| {
        match (second & 0x80, u16::try_from(mask)) {
            (0, _) | (_, Err(_)) => "without meaning".to_owned(),
            (_, Ok(mask)) => TypeMask::new(mask).to_string(),
        }
    })?;
    fields.reserved(2)?;
    rest(fields)
}

fn full_status(fields: &mut Fields<'_>) -> Option<()> {
    let behind = header(fields)?;
    while fields.left() > behind {
        fields.number("RESERVATION KEY", 8, plain)?;
        fields.reserved(4)?;
        let flags = fields.byte()?;
        let holder = flags & 0x01 != 0;
        fields.flags(
            flags,
            [
                ("ALL_TG_PT", 1, "registered at all target ports"),
                ("R_HOLDER", 0, "holds the reservation"),
            ],
        );
        scope_and_type(fields, holder)?;
        fields.reserved(4)?;
        fields.number("RELATIVE TARGET PORT IDENTIFIER", 2, |port| {
            match flags & 0x02 {
                0 => port.to_string(),
                _ => IGNORED.to_owned(),
            }
        })?;
        let length = fields.number("ADDITIONAL DESCRIPTOR LENGTH", 4, count)?;
        transport_id(fields, usize::try_from(length).ok()?)?;
    }
    rest(fields)
}
