//! The fields of CDBs and parameter lists (SPC-4, 6.15.1, 6.16.1, 6.16.3, 6.16.4).

use scsi_pr::{
    InServiceAction, OutServiceAction, PERSISTENT_RESERVE_IN, PERSISTENT_RESERVE_OUT,
    ParameterList, Scope, ScopeType, TransportId, TransportIds,
};

use super::fields::{Fields, IGNORED, count, plain};
use super::said;

/// The parameter list of `action`: its fields, and what it says.
pub(super) fn explain(
    fields: &mut Fields<'_>,
    action: OutServiceAction,
    bytes: &[u8],
) -> Result<String, String> {
    // Where a list ends too early, its own error says so.
    let _ = match action {
        OutServiceAction::RegisterAndMove => register_and_move(fields),
        _ => basic(fields, action, bytes),
    };
    said(ParameterList::decode(action, bytes))
}

/// The fields of a CDB, as far as it goes.
pub(super) fn cdb_fields(fields: &mut Fields<'_>) {
    // Where it ends too early, its own error says so.
    let _ = cdb(fields);
}

fn cdb(fields: &mut Fields<'_>) -> Option<()> {
    let opcode = fields.number("OPERATION CODE", 1, |code| {
        let name = match u8::try_from(code) {
            Ok(PERSISTENT_RESERVE_IN) => "PERSISTENT RESERVE IN",
            Ok(PERSISTENT_RESERVE_OUT) => "PERSISTENT RESERVE OUT",
            _ => "another command",
        };
        name.to_owned()
    })?;
    match u8::try_from(opcode) {
        Ok(PERSISTENT_RESERVE_IN) => {
            let code = fields.byte()? & 0x1f;
            let name = InServiceAction::from_code(code).map(|action| action.to_string());
            fields.bits("SERVICE ACTION", (4, 0), code, or_reserved(name));
            fields.reserved(5)?;
            fields.number("ALLOCATION LENGTH", 2, count)?;
        }
        Ok(PERSISTENT_RESERVE_OUT) => {
            let code = fields.byte()? & 0x1f;
            let action = OutServiceAction::from_code(code);
            let name = action.map(|action| action.to_string());
            fields.bits("SERVICE ACTION", (4, 0), code, or_reserved(name));
            scope_and_type(fields, action.is_none_or(names_a_reservation))?;
            fields.reserved(2)?;
            fields.number("PARAMETER LIST LENGTH", 4, count)?;
        }
        _ => return None,
    }
    fields.number("CONTROL", 1, plain).map(|_| ())
}

/// Whether scope and type count with it.
const fn names_a_reservation(action: OutServiceAction) -> bool {
    !matches!(
        action,
        OutServiceAction::Register
            | OutServiceAction::Clear
            | OutServiceAction::RegisterAndIgnoreExistingKey
    )
}

/// One byte: SCOPE and TYPE.
pub(super) fn scope_and_type(fields: &mut Fields<'_>, counts: bool) -> Option<()> {
    let byte = ScopeType(fields.byte()?);
    let meaning = |meaning: String| match counts {
        true => meaning,
        false => IGNORED.to_owned(),
    };
    let scope = or_reserved(byte.scope().map(|scope| scope.to_string()));
    fields.bits("SCOPE", (7, 4), byte.scope_code(), meaning(scope));
    // The text of a type alone is that of the whole logical unit.
    let of_unit = ScopeType(Scope::LogicalUnit.code() << 4 | byte.type_code());
    fields.bits(
        "TYPE",
        (3, 0),
        byte.type_code(),
        meaning(of_unit.to_string()),
    );
    Some(())
}

fn or_reserved(name: Option<String>) -> String {
    name.unwrap_or_else(|| "reserved".to_owned())
}

fn keys(fields: &mut Fields<'_>, action: OutServiceAction) -> Option<()> {
    fields.number("RESERVATION KEY", 8, |key| match (action, key) {
        (OutServiceAction::RegisterAndIgnoreExistingKey, _) => IGNORED.to_owned(),
        (_, 0) => "none".to_owned(),
        _ => String::new(),
    })?;
    fields.number("SERVICE ACTION RESERVATION KEY", 8, |key| {
        action_key(action, key).to_owned()
    })?;
    Some(())
}

/// What the key says that is not the sender's.
const fn action_key(action: OutServiceAction, key: u64) -> &'static str {
    use OutServiceAction::{
        Clear, Preempt, PreemptAndAbort, Register, RegisterAndIgnoreExistingKey, Release, Reserve,
    };
    match (action, key) {
        (Reserve | Release | Clear, _) => IGNORED,
        (Register | RegisterAndIgnoreExistingKey, 0) => "none: unregisters",
        (Register | RegisterAndIgnoreExistingKey, _) => "the new key",
        (Preempt | PreemptAndAbort, 0) => {
            "all other registrants; only with a reservation of all registrants"
        }
        (Preempt | PreemptAndAbort, _) => "the victim's",
        (_, 0) => "none",
        _ => "",
    }
}

fn basic(fields: &mut Fields<'_>, action: OutServiceAction, bytes: &[u8]) -> Option<()> {
    use OutServiceAction::{Register, RegisterAndIgnoreExistingKey};
    keys(fields, action)?;
    fields.reserved(4)?;
    let flags = fields.byte()?;
    let registers = matches!(action, Register | RegisterAndIgnoreExistingKey);
    let of_registering = |meaning| if registers { meaning } else { IGNORED };
    let spec_i_pt = match action {
        Register => "registers the initiator ports given",
        RegisterAndIgnoreExistingKey => {
            "registers the initiator ports given, which is for REGISTER"
        }
        _ => IGNORED,
    };
    fields.flags(
        flags,
        [
            ("SPEC_I_PT", 3, spec_i_pt),
            (
                "ALL_TG_PT",
                2,
                of_registering("registers at all target ports"),
            ),
            ("APTPL", 0, of_registering("kept when power is lost")),
        ],
    );
    fields.reserved(3)?;
    if flags & 0x08 != 0 {
        fields.number("TRANSPORTID PARAMETER DATA LENGTH", 4, count)?;
        for id in TransportIds::new(bytes.get(28..)?).map_while(Result::ok) {
            transport_id(fields, id.encoded_len())?;
        }
    }
    rest(fields)
}

fn register_and_move(fields: &mut Fields<'_>) -> Option<()> {
    keys(fields, OutServiceAction::RegisterAndMove)?;
    fields.reserved(1)?;
    let flags = fields.byte()?;
    fields.flags(
        flags,
        [
            ("UNREG", 1, "removes the sender's registration"),
            ("APTPL", 0, "kept when power is lost"),
        ],
    );
    fields.number("RELATIVE TARGET PORT IDENTIFIER", 2, |port| {
        port.to_string()
    })?;
    let length = fields.number("TRANSPORTID LENGTH", 4, count)?;
    transport_id(fields, usize::try_from(length).ok()?)?;
    rest(fields)
}

/// `length` bytes of a TransportID.
pub(super) fn transport_id(fields: &mut Fields<'_>, length: usize) -> Option<()> {
    fields.raw("TransportID", length, |bytes| {
        match TransportId::decode(bytes) {
            Ok(id) => id.to_string(),
            Err(error) => format!("malformed: {error}"),
        }
    })
}

/// What follows and has no field.
pub(super) fn rest(fields: &mut Fields<'_>) -> Option<()> {
    match fields.left() {
        0 => Some(()),
        left => fields.raw("(what follows)", left, |_| {
            "no whole field, or behind the end".to_owned()
        }),
    }
}
