//! The fields of sense data (SPC-4, 4.5.2 and 4.5.3).

use scsi_pr::{FieldPointer, Sense, SenseKey};

use super::fields::{Fields, count, plain};

/// The fields of either format, as far as the bytes go: sense data may end anywhere.
pub(super) fn fields(fields: &mut Fields<'_>, bytes: &[u8]) {
    let _ = match bytes.first().map(|first| first & 0x7f) {
        Some(0x72 | 0x73) => descriptors(fields, bytes),
        _ => fixed(fields, bytes),
    };
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
    fields.raw("SENSE KEY SPECIFIC", 3, |_| pointer(bytes))
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
            |_| match kind {
                0x00 => information(bytes),
                0x02 => pointer(bytes),
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

fn pointer(bytes: &[u8]) -> String {
    let pointer: Option<FieldPointer> = Sense::decode(bytes)
        .ok()
        .and_then(|sense| sense.field_pointer);
    pointer.map_or_else(String::new, |pointer| format!("wrong: {pointer}"))
}
