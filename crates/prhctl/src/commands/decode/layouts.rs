// SPDX-License-Identifier: MIT OR Apache-2.0

//! The layouts of CDBs, parameter lists, parameter data and sense data, as data for the
//! [`Walker`](super::fields::Walker) (SPC-4, 4.5.2, 4.5.3, 6.15 and 6.16).

use scsi_pr::{
    InServiceAction, OutServiceAction, PERSISTENT_RESERVE_IN, PERSISTENT_RESERVE_OUT, SenseKey,
    TypeMask,
};

use super::fields::{Context, IGNORED, Item, Meaning, flag, transport_id};
use Item::{Bits, Int, ListLength, Optional, Raw, Repeat, Reserved, Rest, Sized};
use Meaning::{Bytes, Computed, Flag, Plain};

const OPERATION_CODE: Item = Int("OPERATION CODE", 1, Computed(operation_code));
const CONTROL: Item = Int("CONTROL", 1, Plain);
const RESERVATION_KEY: Item = Int("RESERVATION KEY", 8, Plain);
const PRGENERATION: Item = Int("PRGENERATION", 4, Plain);
const ADDITIONAL_LENGTH: Item = ListLength("ADDITIONAL LENGTH");
const RELATIVE_TARGET_PORT: &str = "RELATIVE TARGET PORT IDENTIFIER";

/// PERSISTENT RESERVE IN (6.15.1).
pub(super) const CDB_IN: &[Item] = &[
    OPERATION_CODE,
    Bits(&[("SERVICE ACTION", 4, 0, Computed(in_service_action))]),
    Reserved(5),
    Int("ALLOCATION LENGTH", 2, Bytes),
    CONTROL,
];
/// PERSISTENT RESERVE OUT (6.16.1).
pub(super) const CDB_OUT: &[Item] = &[
    OPERATION_CODE,
    Bits(&[("SERVICE ACTION", 4, 0, Computed(out_service_action))]),
    Item::ScopeType(uses_scope_type),
    Reserved(2),
    Int("PARAMETER LIST LENGTH", 4, Bytes),
    CONTROL,
];
/// Any other command.
pub(super) const CDB_OTHER: &[Item] = &[OPERATION_CODE];

/// The parameter list of all service actions but REGISTER AND MOVE (6.16.3).
pub(super) const BASIC_LIST: &[Item] = &[
    Int("RESERVATION KEY", 8, Computed(sender_key)),
    Int("SERVICE ACTION RESERVATION KEY", 8, Computed(action_key)),
    Reserved(4),
    Bits(&[
        ("SPEC_I_PT", 3, 3, Computed(spec_i_pt)),
        ("ALL_TG_PT", 2, 2, Computed(all_tg_pt)),
        ("APTPL", 0, 0, Computed(aptpl)),
    ]),
    Reserved(3),
    Item::If(
        |context| context.flags & 0x08 != 0,
        &[
            Int("TRANSPORTID PARAMETER DATA LENGTH", 4, Bytes),
            Item::TransportIds,
        ],
    ),
    Rest,
];
/// The parameter list of REGISTER AND MOVE (6.16.4).
pub(super) const MOVE_LIST: &[Item] = &[
    Int("RESERVATION KEY", 8, Computed(sender_key)),
    Int("SERVICE ACTION RESERVATION KEY", 8, Computed(action_key)),
    Reserved(1),
    Bits(&[
        ("UNREG", 1, 1, Flag("remove the sender's registration")),
        ("APTPL", 0, 0, Flag(PERSIST)),
    ]),
    Int(RELATIVE_TARGET_PORT, 2, Computed(|n, _| n.to_string())),
    Int("TRANSPORTID LENGTH", 4, Bytes),
    Sized("TransportID", transport_id),
    Rest,
];
const PERSIST: &str = "persist through a power loss";

/// READ KEYS (6.15.2).
pub(super) const KEYS: &[Item] = &[
    PRGENERATION,
    ADDITIONAL_LENGTH,
    Repeat(8, &[RESERVATION_KEY]),
    Rest,
];
/// READ RESERVATION (6.15.3).
pub(super) const RESERVATION: &[Item] = &[
    PRGENERATION,
    ADDITIONAL_LENGTH,
    Optional(&[
        Int("RESERVATION KEY", 8, Computed(holder_key)),
        Reserved(5),
        Item::ScopeType(|_| true),
        Reserved(2),
    ]),
    Rest,
];
/// REPORT CAPABILITIES (6.15.4).
pub(super) const CAPABILITIES: &[Item] = &[
    Int("LENGTH", 2, Bytes),
    Bits(&[
        ("RLR_C", 7, 7, Flag("supports REPLACE LOST RESERVATION")),
        (
            "CRH",
            4,
            4,
            Flag("accepts SPC-2 RESERVE and RELEASE from the holder"),
        ),
        (
            "SIP_C",
            3,
            3,
            Flag("can register other initiator ports (SPEC_I_PT)"),
        ),
        (
            "ATP_C",
            2,
            2,
            Flag("can register at all target ports (ALL_TG_PT)"),
        ),
        ("PTPL_C", 0, 0, Flag("can persist through a power loss")),
    ]),
    Bits(&[
        ("TMV", 7, 7, Flag("type mask is valid")),
        ("ALLOW COMMANDS", 6, 4, Computed(allow_commands)),
        ("PTPL_A", 0, 0, Flag("persists through a power loss now")),
    ]),
    Int("PERSISTENT RESERVATION TYPE MASK", 2, Computed(type_mask)),
    Reserved(2),
    Rest,
];
/// READ FULL STATUS (6.15.5).
pub(super) const FULL_STATUS: &[Item] = &[
    PRGENERATION,
    ADDITIONAL_LENGTH,
    Repeat(
        1,
        &[
            RESERVATION_KEY,
            Reserved(4),
            Bits(&[
                ("ALL_TG_PT", 1, 1, Flag("registered at all target ports")),
                ("R_HOLDER", 0, 0, Flag("holds the reservation")),
            ]),
            Item::ScopeType(|context| context.flags & 0x01 != 0),
            Reserved(4),
            Int(RELATIVE_TARGET_PORT, 2, Computed(registered_port)),
            Int("ADDITIONAL DESCRIPTOR LENGTH", 4, Bytes),
            Sized("TransportID", transport_id),
        ],
    ),
    Rest,
];

const SENSE_KEY: Item = Bits(&[("SENSE KEY", 3, 0, Computed(sense_key))]);
const SENSE_CODE: Item = Int("ADDITIONAL SENSE CODE", 1, Plain);
/// Only ASC and ASCQ together have a name.
const SENSE_QUALIFIER: Item = Int("ADDITIONAL SENSE CODE QUALIFIER", 1, Computed(sense_name));
const SENSE_LENGTH: Item = Int("ADDITIONAL SENSE LENGTH", 1, Bytes);

/// The first byte of sense data with a response code below 72h.
pub(super) const VALID_AND_RESPONSE_CODE: &[Item] = &[Bits(&[
    ("VALID", 7, 7, Flag("INFORMATION is valid")),
    ("RESPONSE CODE", 6, 0, Computed(response_code)),
])];
/// The first byte of other sense data, in which VALID is reserved.
pub(super) const RESPONSE_CODE: &[Item] =
    &[Bits(&[("RESPONSE CODE", 6, 0, Computed(response_code))])];
/// The rest of sense data in fixed format (4.5.3).
pub(super) const FIXED_SENSE: &[Item] = &[
    Reserved(1),
    SENSE_KEY,
    Int("INFORMATION", 4, Plain),
    SENSE_LENGTH,
    Int("COMMAND-SPECIFIC INFORMATION", 4, Plain),
    SENSE_CODE,
    SENSE_QUALIFIER,
    Int("FIELD REPLACEABLE UNIT CODE", 1, Plain),
    Raw("SENSE KEY SPECIFIC", 3, sense_key_specific),
];
/// The rest of sense data in descriptor format (4.5.2).
pub(super) const DESCRIPTOR_SENSE: &[Item] = &[
    SENSE_KEY,
    SENSE_CODE,
    SENSE_QUALIFIER,
    Reserved(3),
    SENSE_LENGTH,
    Repeat(
        1,
        &[
            Int("DESCRIPTOR TYPE", 1, Computed(descriptor_type)),
            Int("ADDITIONAL LENGTH", 1, Bytes),
            Sized("(descriptor)", descriptor),
        ],
    ),
];

fn operation_code(code: u64, _: &Context) -> String {
    match u8::try_from(code) {
        Ok(PERSISTENT_RESERVE_IN) => "PERSISTENT RESERVE IN",
        Ok(PERSISTENT_RESERVE_OUT) => "PERSISTENT RESERVE OUT",
        _ => "another command",
    }
    .to_owned()
}

fn in_service_action(code: u64, _: &Context) -> String {
    let action = u8::try_from(code).ok().and_then(InServiceAction::from_code);
    action.map_or("reserved", InServiceAction::name).to_owned()
}

fn out_service_action(_: u64, context: &Context) -> String {
    let action = context.action;
    action.map_or("reserved", OutServiceAction::name).to_owned()
}

/// Returns whether the device uses SCOPE and TYPE of the CDB.
fn uses_scope_type(context: &Context) -> bool {
    !matches!(
        context.action,
        Some(
            OutServiceAction::Register
                | OutServiceAction::Clear
                | OutServiceAction::RegisterAndIgnoreExistingKey
        )
    )
}

fn sender_key(key: u64, context: &Context) -> String {
    match (context.action, key) {
        (Some(OutServiceAction::RegisterAndIgnoreExistingKey), _) => IGNORED,
        (_, 0) => "none",
        _ => "",
    }
    .to_owned()
}

fn action_key(key: u64, context: &Context) -> String {
    use OutServiceAction::{
        Clear, Preempt, PreemptAndAbort, Register, RegisterAndIgnoreExistingKey, Release, Reserve,
    };
    match (context.action, key) {
        (Some(Reserve | Release | Clear), _) => IGNORED,
        (Some(Register | RegisterAndIgnoreExistingKey), 0) => "none: unregister",
        (Some(Register | RegisterAndIgnoreExistingKey), _) => "new key",
        (Some(Preempt | PreemptAndAbort), 0) => {
            "all other registrants; valid only with an all registrants reservation"
        }
        (Some(Preempt | PreemptAndAbort), _) => "victim's key",
        (_, 0) => "none",
        _ => "",
    }
    .to_owned()
}

fn spec_i_pt(value: u64, context: &Context) -> String {
    match context.action {
        Some(OutServiceAction::Register) => flag(value, "register the listed initiator ports"),
        Some(OutServiceAction::RegisterAndIgnoreExistingKey) => flag(
            value,
            "register the listed initiator ports (invalid except with REGISTER)",
        ),
        _ => IGNORED.to_owned(),
    }
}

fn all_tg_pt(value: u64, context: &Context) -> String {
    match is_register(context) {
        true => flag(value, "register at all target ports"),
        false => IGNORED.to_owned(),
    }
}

fn aptpl(value: u64, context: &Context) -> String {
    match is_register(context) {
        true => flag(value, PERSIST),
        false => IGNORED.to_owned(),
    }
}

const fn is_register(context: &Context) -> bool {
    matches!(
        context.action,
        Some(OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey)
    )
}

fn holder_key(key: u64, _: &Context) -> String {
    match key {
        0 => "all registrants are holders",
        _ => "holder's key",
    }
    .to_owned()
}

fn allow_commands(row: u64, _: &Context) -> String {
    match row {
        0 => "commands allowed to others are not reported",
        1 => "TEST UNIT READY is allowed to others; the rest is not reported",
        _ => "see SPC-4, 6.15.4",
    }
    .to_owned()
}

fn type_mask(mask: u64, context: &Context) -> String {
    match (context.flags & 0x80, u16::try_from(mask)) {
        (0, _) | (_, Err(_)) => "not valid".to_owned(),
        (_, Ok(mask)) => TypeMask::new(mask).to_string(),
    }
}

fn registered_port(port: u64, context: &Context) -> String {
    match context.flags & 0x02 {
        0 => port.to_string(),
        _ => IGNORED.to_owned(),
    }
}

fn response_code(code: u64, _: &Context) -> String {
    match code {
        0x70 => "fixed format, current",
        0x71 => "fixed format, deferred (of an earlier command)",
        0x72 => "descriptor format, current",
        0x73 => "descriptor format, deferred (of an earlier command)",
        _ => "reserved or vendor specific",
    }
    .to_owned()
}

fn sense_key(code: u64, _: &Context) -> String {
    let code = u8::try_from(code).unwrap_or_default();
    SenseKey::from_low_bits(code).to_string()
}

fn sense_name(_: u64, context: &Context) -> String {
    let code = context.sense.unwrap_or_default().code;
    code.name().unwrap_or("no known name").to_owned()
}

fn descriptor_type(code: u64, _: &Context) -> String {
    match code {
        0x00 => "information",
        0x01 => "command-specific information",
        0x02 => "sense key specific",
        0x03 => "field replaceable unit",
        _ => "other",
    }
    .to_owned()
}

fn descriptor(body: &[u8], context: &Context) -> String {
    match context.second_last {
        0x00 => {
            let information = context.sense.and_then(|sense| sense.information);
            information.map_or_else(String::new, |value| format!("{value:#x}"))
        }
        0x02 => sense_key_specific(body.get(2..).unwrap_or_default(), context),
        _ => String::new(),
    }
}

/// Explains SENSE KEY SPECIFIC: a field pointer, or a progress indication (4.5.2.4).
fn sense_key_specific(field: &[u8], context: &Context) -> String {
    let Some(sense) = context.sense else {
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
