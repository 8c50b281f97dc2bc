//! Errors for programs, and what devices say in them.

use scsi_pr::{FieldPointer, Sense, Status};
use serde::Serialize;

use super::{ReservationJson, key_list};
use crate::error::{Error, Inquiry, Refusal};
use crate::output::Told;

/// The document for an error.
#[derive(Serialize)]
pub(super) struct ErrorDocument<'a> {
    pub(super) device: Option<String>,
    pub(super) error: ErrorJson<'a>,
    pub(super) unit_attentions: Vec<SenseJson>,
}

/// What went wrong.
#[derive(Serialize)]
pub(in crate::output) struct ErrorJson<'a> {
    message: &'a str,
    advice: &'a [String],
    exit_status: u8,
    status: Option<StatusJson>,
    sense: Option<SenseJson>,
    conflict: Option<ConflictJson>,
}

impl<'a> ErrorJson<'a> {
    pub(in crate::output) fn of(error: &Error, told: &'a Told) -> Self {
        let refusal = error.refusal();
        ErrorJson {
            message: &told.message,
            advice: &told.advice,
            exit_status: error.exit().code(),
            status: refusal.map(|refusal| StatusJson::of(refusal.status)),
            sense: refusal
                .and_then(|refusal| refusal.sense.as_ref())
                .map(SenseJson::of),
            conflict: refusal.and_then(ConflictJson::of),
        }
    }
}

/// A status.
#[derive(Serialize)]
pub(in crate::output) struct StatusJson {
    code: u8,
    name: Option<&'static str>,
}

impl StatusJson {
    pub(in crate::output) const fn of(status: Status) -> Self {
        StatusJson {
            code: status.0,
            name: status.name(),
        }
    }
}

/// Sense.
#[derive(Serialize)]
pub(in crate::output) struct SenseJson {
    key: u8,
    key_name: String,
    asc: u8,
    ascq: u8,
    name: Option<&'static str>,
    deferred: bool,
    information: Option<u64>,
    field_pointer: Option<FieldPointerJson>,
}

impl SenseJson {
    pub(in crate::output) fn of(sense: &Sense) -> Self {
        SenseJson {
            key: sense.key.code(),
            key_name: sense.key.to_string(),
            asc: sense.code.asc,
            ascq: sense.code.ascq,
            name: sense.code.name(),
            deferred: sense.deferred,
            information: sense.information,
            field_pointer: sense.field_pointer.map(FieldPointerJson::of),
        }
    }
}

#[derive(Serialize)]
struct FieldPointerJson {
    in_cdb: bool,
    byte: u16,
    bit: Option<u8>,
}

impl FieldPointerJson {
    const fn of(pointer: FieldPointer) -> Self {
        FieldPointerJson {
            in_cdb: pointer.in_cdb,
            byte: pointer.byte,
            bit: pointer.bit,
        }
    }
}

#[derive(Serialize)]
struct ConflictJson {
    keys: Vec<String>,
    reservation: Option<ReservationJson>,
}

impl ConflictJson {
    fn of(refusal: &Refusal) -> Option<Self> {
        match &refusal.inquiry {
            Inquiry::Said(said) => Some(ConflictJson {
                keys: key_list(&said.keys),
                reservation: ReservationJson::of(&said.reservation),
            }),
            Inquiry::Silent | Inquiry::Refused => None,
        }
    }
}
