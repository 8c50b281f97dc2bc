// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl decode`: explains bytes, as a whole and field by field.
//!
//! `scsi-pr` decodes the bytes as a whole. The fields come from [`layouts`], which also explain
//! malformed bytes up to the fault.

mod fields;
mod hex;
mod layouts;

use std::fmt::Display;
use std::io::{self, Read};

use clap::{Args, ValueEnum, ValueHint};
use cli_messages::error::error_chain;
use scsi_pr::{
    Capabilities, Cdb, FullStatus, Keys, OutServiceAction, PERSISTENT_RESERVE_IN,
    PERSISTENT_RESERVE_OUT, ParameterList, ReservationData, Sense, Truncatable,
};
use thiserror::Error;

use super::Subcommand;
use crate::console::{BOLD, INVALID, PLAIN, escape_control, table};
use crate::context::Context as Output;
use crate::error::AdvisedError;
use crate::exit::Exit;
use crate::labels;
use crate::output::json::{self, Json, ToJson, object};
use crate::output::text::ToText;
pub(crate) use fields::Field;
use fields::{Context, Item, Walker};

pub(crate) const HELP: &str = "\
Explain bytes field by field: a CDB, a parameter list, parameter data or sense
data.

Nothing is sent. Each byte consists of two hexadecimal digits, or of one that
stands alone, with or without 0x. Blanks, commas, colons and semicolons between
bytes of two digits are optional. The bytes come from the command line, or from
standard input if there are none or only '-'. prhctl recognizes CDBs of
PERSISTENT RESERVE and sense data by their first byte; for everything else, use
--as. It does not understand the offsets that xxd and hexdump print: use xxd
-p.

The meaning of a parameter list depends on the service action: append the list
to its CDB, or use --service-action.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl decode 5f 04 05 00 00 00 00 00 18 00
  prhctl decode 70:00:05:00:00:00:00:0a:00:00:00:00:26:04
  prhctl decode --as keys < answer.hex
  prhctl decode --service-action register \\
      0000000000000000 0000000000123abc 0000000001000000

Exit status 0, or 1 if the bytes are malformed.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Explain a CDB, parameter list, parameter data or sense data",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct DecodeArgs {
    /// Bytes in hexadecimal [default: from standard input]
    #[arg(value_name = "HEX", value_hint = ValueHint::Other, allow_hyphen_values = false)]
    hex: Vec<String>,
    #[arg(
        long = "as",
        value_name = "WHAT",
        value_enum,
        hide_possible_values = true,
        help = "Type: cdb, sense, parameters, keys,\n\
                reservation, capabilities or status"
    )]
    kind: Option<DataKind>,
    /// Service action of a parameter list
    #[arg(
        long, value_name = "ACTION", value_parser = labels::SERVICE_ACTION,
        hide_possible_values = true
    )]
    service_action: Option<OutServiceAction>,
}

/// Number of characters of a value that are printed. JSON has all of them.
const MAX_VALUE_LEN: usize = 60;

/// A type of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataKind {
    /// Command descriptor block, optionally with its parameter list
    Cdb,
    /// Sense data
    Sense,
    /// Parameter list of PERSISTENT RESERVE OUT
    Parameters,
    /// Parameter data of READ KEYS
    Keys,
    /// Parameter data of READ RESERVATION
    Reservation,
    /// Parameter data of REPORT CAPABILITIES
    Capabilities,
    /// Parameter data of READ FULL STATUS
    Status,
}

/// Returns the name of a type on the command line.
pub(crate) fn kind_name(kind: DataKind) -> String {
    let value = kind.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Explained bytes.
#[derive(Debug)]
pub(crate) struct Explanation {
    pub(crate) kind: DataKind,
    /// The bytes in one line, or why they are malformed.
    pub(crate) summary: Result<String, String>,
    /// The fields, up to the first incomplete one.
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Error)]
pub(crate) enum DecodeError {
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("{0:?} is not a sequence of two-digit hexadecimal bytes")]
    Hex(String),
    #[error("no bytes to explain")]
    Empty,
    /// The bytes can have several types.
    #[error("cannot determine what these bytes are")]
    Unknown,
    #[error("the meaning of a parameter list depends on its service action")]
    NoServiceAction,
    #[error("--service-action is for parameter lists and cannot be used with --as {0}")]
    ServiceAction(String),
}

impl AdvisedError for DecodeError {
    fn advice(&self) -> Vec<String> {
        match self {
            DecodeError::Unknown => {
                let kinds: Vec<_> = DataKind::value_variants()
                    .iter()
                    .map(|kind| kind_name(*kind))
                    .collect();
                vec![format!("Use --as {}.", kinds.join("|"))]
            }
            DecodeError::NoServiceAction => vec![
                "Append the list to its CDB, or use --service-action NAME with one of".to_owned(),
                OutServiceAction::ALL.map(labels::service_action).join(", "),
            ],
            DecodeError::Hex(_) => {
                vec!["Offsets are not understood; dump the bytes with xxd -p.".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

impl Subcommand for DecodeArgs {
    fn run(&self, context: &Output) -> Exit {
        match explain_input(self) {
            Ok(explanation) if explanation.summary.is_err() => {
                context.print(&explanation, Exit::FAILURE)
            }
            result => context.finish(result),
        }
    }

    fn uses_helper(&self) -> bool {
        false
    }
}

/// Explains the bytes on the command line, or those on standard input.
fn explain_input(args: &DecodeArgs) -> Result<Explanation, DecodeError> {
    let text = match args.hex.iter().any(|word| word != "-") {
        true => args.hex.join(" "),
        false => {
            let mut text = Vec::new();
            let read = io::stdin().read_to_end(&mut text);
            read.map_err(DecodeError::Input)?;
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    explain(&hex::parse(&text)?, args.kind, args.service_action)
}

fn explain(
    bytes: &[u8],
    kind: Option<DataKind>,
    action: Option<OutServiceAction>,
) -> Result<Explanation, DecodeError> {
    let kind = match (kind, action) {
        (None | Some(DataKind::Parameters), Some(_)) => DataKind::Parameters,
        (Some(kind), Some(_)) => return Err(DecodeError::ServiceAction(kind_name(kind))),
        (Some(kind), None) => kind,
        (None, None) => detect(bytes).ok_or(DecodeError::Unknown)?,
    };
    let (summary, fields) = match kind {
        DataKind::Cdb => cdb(bytes),
        DataKind::Sense => sense(bytes),
        DataKind::Parameters => {
            let action = action.ok_or(DecodeError::NoServiceAction)?;
            parameter_list(action, bytes, "")
        }
        DataKind::Keys => (summarize(Keys::decode(bytes)), data(bytes, layouts::KEYS)),
        DataKind::Reservation => (
            summarize(ReservationData::decode(bytes)),
            data(bytes, layouts::RESERVATION),
        ),
        DataKind::Capabilities => (
            summarize(Capabilities::decode(bytes)),
            data(bytes, layouts::CAPABILITIES),
        ),
        DataKind::Status => {
            let status = FullStatus::decode(bytes);
            let malformed = status.as_ref().ok().and_then(malformed_transport_id);
            let summary = malformed.map_or_else(|| summarize(status), Err);
            (summary, data(bytes, layouts::FULL_STATUS))
        }
    };
    Ok(Explanation {
        kind,
        summary,
        fields,
    })
}

/// Detects CDBs and sense data by their first byte. Because keys and generations can begin with any
/// byte, a CDB must not be longer than a CDB and the parameter list that it announces.
fn detect(bytes: &[u8]) -> Option<DataKind> {
    match bytes {
        [PERSISTENT_RESERVE_IN | PERSISTENT_RESERVE_OUT, ..] => {
            let is_complete = bytes.len() <= CDB_LENGTH
                || after_padding(bytes).is_some_and(<[u8]>::is_empty)
                || announced_list(bytes).is_some();
            is_complete.then_some(DataKind::Cdb)
        }
        [first, ..] if (0x70..=0x73).contains(&(first & 0x7f)) => Some(DataKind::Sense),
        _ => None,
    }
}

/// Length of a CDB.
const CDB_LENGTH: usize = 10;
/// Length of the field for a CDB in QEMU's protocol and in the kernel.
const PADDED_CDB_LENGTH: usize = 16;

/// Returns the bytes after a CDB that is padded with zeros to 16 bytes.
fn after_padding(bytes: &[u8]) -> Option<&[u8]> {
    let (field, rest) = bytes.split_at_checked(PADDED_CDB_LENGTH)?;
    let padding = field.get(CDB_LENGTH..)?;
    padding.iter().all(|byte| *byte == 0).then_some(rest)
}

/// Returns the service action and the parameter list of a CDB, if exactly the list that it
/// announces follows it.
fn announced_list(bytes: &[u8]) -> Option<(OutServiceAction, &[u8])> {
    let Ok(Cdb::Out(command)) = Cdb::decode(bytes) else {
        return None;
    };
    let announced = usize::try_from(command.parameter_list_length).ok()?;
    [bytes.get(CDB_LENGTH..), after_padding(bytes)]
        .into_iter()
        .flatten()
        .find(|list| !list.is_empty() && list.len() == announced)
        .map(|list| (command.service_action, list))
}

/// A summary or an error, and fields.
type Explained = (Result<String, String>, Vec<Field>);

/// Explains a CDB, and the parameter list that follows it.
fn cdb(bytes: &[u8]) -> Explained {
    let action = bytes.get(1).map(|byte| byte & 0x1f);
    let context = Context {
        action: action.and_then(OutServiceAction::from_code),
        ..Context::default()
    };
    let layout = match bytes.first() {
        Some(&PERSISTENT_RESERVE_IN) => layouts::CDB_IN,
        Some(&PERSISTENT_RESERVE_OUT) => layouts::CDB_OUT,
        _ => layouts::CDB_OTHER,
    };
    let mut fields = walk(bytes, "", context, layout);
    let summary = match summarize(Cdb::decode(bytes)) {
        Ok(summary) => summary,
        error => return (error, fields),
    };
    if let Some((action, list)) = announced_list(bytes) {
        let (list_summary, list_fields) = parameter_list(action, list, "list ");
        fields.extend(list_fields);
        return (
            list_summary.map(|list| format!("{summary}; {list}")),
            fields,
        );
    }
    let rest = bytes.get(CDB_LENGTH..).unwrap_or_default();
    if rest.is_empty() || after_padding(bytes).is_some_and(<[u8]>::is_empty) {
        return (Ok(summary), fields);
    }
    let length = rest.len();
    let error = format!(
        "{summary}; the {length} bytes after it are neither padding to 16 bytes nor the parameter \
         list that it announces"
    );
    (Err(error), fields)
}

/// Explains the parameter list of a service action. `prefix` precedes each position.
fn parameter_list(action: OutServiceAction, bytes: &[u8], prefix: &'static str) -> Explained {
    let layout = match action {
        OutServiceAction::RegisterAndMove => layouts::MOVE_LIST,
        _ => layouts::BASIC_LIST,
    };
    let context = Context {
        action: Some(action),
        ..Context::default()
    };
    let fields = walk(bytes, prefix, context, layout);
    (summarize(ParameterList::decode(action, bytes)), fields)
}

fn walk(bytes: &[u8], prefix: &'static str, context: Context, layout: &[Item]) -> Vec<Field> {
    let mut walker = Walker::new(bytes, prefix, context);
    // The summary reports that the bytes end too early.
    let _ = walker.walk(layout);
    walker.into_fields()
}

fn data(bytes: &[u8], layout: &[Item]) -> Vec<Field> {
    walk(bytes, "", Context::default(), layout)
}

/// Returns the error of the first registration with a malformed TransportID.
fn malformed_transport_id(status: &Truncatable<FullStatus>) -> Option<String> {
    let mut descriptors = status.value.descriptors.iter();
    descriptors.find_map(|descriptor| {
        let error = descriptor.transport_id.as_ref().err()?.error();
        let key = descriptor.key;
        Some(format!(
            "TransportID of the registration with key {key}: {error}"
        ))
    })
}

/// Explains sense data. They can end anywhere: after the additional length, or where a host adapter
/// truncated them.
fn sense(bytes: &[u8]) -> Explained {
    /// Number of bytes up to and including ADDITIONAL SENSE LENGTH in both formats.
    const HEADER_LENGTH: usize = 8;
    let decoded = Sense::decode(bytes);
    let context = Context {
        sense: decoded.ok(),
        ..Context::default()
    };
    let mut walker = Walker::new(bytes, "", context);
    if let Some(additional) = bytes.get(HEADER_LENGTH - 1) {
        walker.end_at(HEADER_LENGTH + usize::from(*additional));
    }
    let response_code = bytes.first().map_or(0, |first| first & 0x7f);
    let first_byte = match response_code < 0x72 {
        true => layouts::VALID_AND_RESPONSE_CODE,
        false => layouts::RESPONSE_CODE,
    };
    let has_descriptors = matches!(response_code, 0x72 | 0x73);
    // The second number is the offset after the additional sense code qualifier.
    let (layout, code_end) = match has_descriptors {
        true => (layouts::DESCRIPTOR_SENSE, 4),
        false => (layouts::FIXED_SENSE, 14),
    };
    let walked = walker.walk(first_byte).and_then(|()| walker.walk(layout));
    let is_complete = walked.is_some();
    let (at, left) = (walker.at(), walker.left());
    let has_code = at.saturating_add(left) >= code_end;
    walker.end_at(bytes.len());
    let _ = walker.walk(&[Item::Rest]);
    let summary = match decoded {
        Ok(_) if has_descriptors && !is_complete && at >= HEADER_LENGTH => {
            let last = bytes.len().saturating_sub(1);
            Err(format!(
                "the last descriptor is truncated after byte {last}"
            ))
        }
        Ok(sense) if !has_code => Ok(format!("{}, without an additional sense code", sense.key)),
        sense => summarize(sense),
    };
    (summary, walker.into_fields())
}

/// Returns the text of a decoded value, or the error and its sources.
fn summarize<T: Display, E: std::error::Error + 'static>(
    value: Result<T, E>,
) -> Result<String, String> {
    value
        .map(|value| value.to_string())
        .map_err(|error| error_chain(&error))
}

impl ToText for Explanation {
    fn to_text(&self) -> String {
        let head = match &self.summary {
            Ok(summary) => format!("{BOLD}{}{BOLD:#}\n", escape_control(summary)),
            Err(problem) => format!(
                "{INVALID}invalid {}:{INVALID:#} {}\n",
                kind_name(self.kind),
                escape_control(problem)
            ),
        };
        if self.fields.is_empty() {
            return head;
        }
        let rows = self.fields.iter().map(|field| {
            let cells = [&field.position, field.name, &field.value, &field.meaning];
            (PLAIN, cells.map(shorten_hex).to_vec())
        });
        head + &table(&["POSITION", "FIELD", "VALUE", "MEANING"], rows)
    }
}

fn shorten_hex(cell: &str) -> String {
    match cell.char_indices().nth(MAX_VALUE_LEN) {
        Some((end, _)) if cell.chars().all(|c| c.is_ascii_hexdigit()) => {
            format!("{}...", cell.get(..end).unwrap_or_default())
        }
        _ => cell.to_owned(),
    }
}

impl ToJson for Explanation {
    fn to_json(&self) -> Json {
        let fields = self.fields.iter().map(|field| {
            object! {
                "position": &field.position,
                "name": field.name,
                "value": &field.value,
                "meaning": &field.meaning,
            }
        });
        object! {
            "kind": kind_name(self.kind),
            "summary": self.summary.as_ref().ok(),
            "error": self.summary.as_ref().err().map(|text| json::message(text)),
            "fields": fields.collect::<Json>(),
        }
    }
}

#[cfg(test)]
mod tests;
