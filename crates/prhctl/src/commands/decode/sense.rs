//! The fields of sense data (SPC-4, 4.5.2 and 4.5.3).

use scsi_pr::{Sense, SenseKey};

use super::fields::{Fields, count, plain};
use super::parameters::rest;
use super::said;

/// Bytes up to and including ADDITIONAL SENSE LENGTH, and where that is, in both formats.
const HEADER_LENGTH: usize = 8;
const LENGTH_AT: usize = 7;

/// The fields of either format, and what they say. Sense data may end anywhere: after the additional
/// length, or where a host adapter has cut it off.
pub(super) fn explain(fields: &mut Fields<'_>, bytes: &[u8]) -> Result<String, String> {
    let additional = bytes.get(LENGTH_AT).copied();
    if let Some(additional) = additional {
        fields.end_at(HEADER_LENGTH + usize::from(additional));
    }
    let is_descriptors = matches!(bytes.first().map(|first| first & 0x7f), Some(0x72 | 0x73));
    let (whole, code_end) = match is_descriptors {
        true => (descriptors(fields, bytes), 4),
        false => (fixed(fields, bytes), 14),
    };
    let (at, left) = (fields.at(), fields.left());
    let has_code = at.saturating_add(left) >= code_end;
    fields.end_at(bytes.len());
    // Behind the end it means nothing.
    let _ = rest(fields);
    let sense = Sense::decode(bytes);
    match sense {
        Ok(_) if is_descriptors && whole.is_none() && at >= HEADER_LENGTH => {
            let last = bytes.len().saturating_sub(1);
            Err(format!(
                "the last descriptor is cut off: it goes on behind byte {last}"
            ))
        }
        Ok(sense) if !has_code => Ok(format!("{}, without an additional sense code", sense.key)),
        sense => said(sense),
    }
}

fn response_code(fields: &mut Fields<'_>) -> Option<()> {
    let byte = fields.byte()?;
    let code = byte & 0x7f;
    if code < 0x72 {
        fields.flags(byte, [("VALID", 7, "INFORMATION counts")]);
    }
    let meaning = match code {
        0x70 => "fixed format, current",
        0x71 => "fixed format, deferred: of an earlier command",
        0x72 => "descriptor format, current",
        0x73 => "descriptor format, deferred: of an earlier command",
        _ => "reserved or vendor specific",
    };
    fields.bits("RESPONSE CODE", (6, 0), code, meaning.to_owned());
    Some(())
}

fn fixed(fields: &mut Fields<'_>, bytes: &[u8]) -> Option<()> {
    response_code(fields)?;
    fields.reserved(1)?;
    sense_key(fields)?;
    fields.number("INFORMATION", 4, plain)?;
    fields.number("ADDITIONAL SENSE LENGTH", 1, count)?;
    fields.number("COMMAND-SPECIFIC INFORMATION", 4, plain)?;
    additional_sense(fields, bytes)?;
    fields.number("FIELD REPLACEABLE UNIT CODE", 1, plain)?;
    fields.raw("SENSE KEY SPECIFIC", 3, |field| specific(bytes, field))
}

fn descriptors(fields: &mut Fields<'_>, bytes: &[u8]) -> Option<()> {
    response_code(fields)?;
    sense_key(fields)?;
    additional_sense(fields, bytes)?;
    fields.reserved(3)?;
    fields.number("ADDITIONAL SENSE LENGTH", 1, count)?;
    while fields.left() > 0 {
        let kind = fields.number("DESCRIPTOR TYPE", 1, |kind| {
            let name = match kind {
                0x00 => "information",
                0x01 => "command-specific information",
                0x02 => "sense key specific",
                0x03 => "field replaceable unit",
                _ => "another",
            };
            name.to_owned()
        })?;
        let length = fields.number("ADDITIONAL LENGTH", 1, count)?;
        fields.raw(
            "(descriptor)",
            usize::try_from(length).ok()?,
            |body| match kind {
                0x00 => information(bytes),
                0x02 => specific(bytes, body.get(2..).unwrap_or_default()),
                _ => String::new(),
            },
        )?;
    }
    Some(())
}

fn sense_key(fields: &mut Fields<'_>) -> Option<()> {
    let byte = fields.byte()?;
    let key = SenseKey::from_low_bits(byte);
    fields.bits("SENSE KEY", (3, 0), key.code(), key.to_string());
    Some(())
}

/// The two codes, of which only both together have a name.
fn additional_sense(fields: &mut Fields<'_>, bytes: &[u8]) -> Option<()> {
    let code = Sense::decode(bytes).unwrap_or_default().code;
    fields.number("ADDITIONAL SENSE CODE", 1, plain)?;
    fields.number("ADDITIONAL SENSE CODE QUALIFIER", 1, |_| {
        code.name().unwrap_or("not known by name").to_owned()
    })?;
    Some(())
}

fn information(bytes: &[u8]) -> String {
    let information = Sense::decode(bytes)
        .ok()
        .and_then(|sense| sense.information);
    information.map_or_else(String::new, |value| format!("{value:#x}"))
}

/// SENSE KEY SPECIFIC: a field pointer, or how far something has come (SPC-4, 4.5.2.4).
fn specific(bytes: &[u8], field: &[u8]) -> String {
    let Ok(sense) = Sense::decode(bytes) else {
        return String::new();
    };
    match (sense.key, sense.field_pointer, field) {
        (_, Some(pointer), _) => format!("wrong: {pointer}"),
        (SenseKey::NoSense | SenseKey::NotReady, _, [flags, high, low, ..])
            if flags & 0x80 != 0 =>
        {
            let done = u32::from(u16::from_be_bytes([*high, *low]));
            format!("{} percent done", done * 100 / 65536)
        }
        _ => String::new(),
    }
}
