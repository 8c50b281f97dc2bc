//! Bytes explained: which bytes, what they are, and each field by its name.
//!
//! What bytes mean as a whole is said by `scsi-pr`; the fields one by one are found by the layouts in
//! here, so that bytes that are wrong are explained up to the place where they are.

mod data;
mod fields;
mod hex;
mod parameters;
mod sense;

use std::io::{self, Read};

use clap::ValueEnum;
use scsi_pr::{Cdb, CdbError, InServiceAction, OutServiceAction};
use thiserror::Error;

use crate::chain::chain;
use crate::cli::{self, Kind};
use crate::labels;
pub(crate) use fields::Field;
use fields::Fields;

/// Bytes of a CDB, and of the field for one in QEMU's protocol and in the kernel's.
const CDB_LENGTH: usize = 10;
const PADDED_CDB_LENGTH: usize = 16;

/// What bytes are, and what they say.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// What they were taken for.
    pub(crate) kind: Kind,
    /// In one line, or what is wrong with them.
    pub(crate) summary: Result<String, String>,
    /// Their fields, as far as they could be told apart.
    pub(crate) fields: Vec<Field>,
}

/// Why bytes could not be explained.
#[derive(Debug, Error)]
pub(crate) enum DecodeError {
    /// Standard input cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// The text is not hexadecimal.
    #[error("{0:?} is not bytes of two hexadecimal digits each")]
    Hex(String),
    /// There is nothing.
    #[error("no bytes to explain")]
    Empty,
    /// The bytes could be anything.
    #[error("what these bytes are cannot be told from them")]
    Unknown,
    /// A parameter list by itself does not say what it means.
    #[error("a parameter list means different things with different service actions")]
    NoServiceAction,
    /// A service action is for parameter lists alone.
    #[error("--service-action is for a parameter list, and not with --as {0}")]
    ServiceAction(String),
}

impl DecodeError {
    /// What to do then.
    pub(crate) fn advice(&self) -> Vec<String> {
        match self {
            DecodeError::Unknown => {
                let kinds: Vec<String> = Kind::value_variants().iter().map(name).collect();
                vec![format!("Say it: --as {}.", kinds.join("|"))]
            }
            DecodeError::NoServiceAction => vec![
                "Give the list behind its CDB, or name it: --service-action NAME, of".to_owned(),
                OutServiceAction::ALL.map(labels::of_out).join(", "),
            ],
            DecodeError::Hex(_) => vec!["Offsets are not understood: use xxd -p.".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Its word on the command line.
pub(crate) fn name(kind: &Kind) -> String {
    let value = kind.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Explains the bytes given, or those on standard input.
///
/// # Errors
///
/// [`DecodeError`]: there are none, or nobody knows what they are.
pub(crate) fn decode(given: &cli::Decode) -> Result<Explanation, DecodeError> {
    // `-` is standard input, as with other programs.
    let is_given = given.hex.iter().any(|word| word != "-");
    let text = match is_given {
        true => given.hex.join(" "),
        false => {
            let mut text = Vec::new();
            let read = io::stdin().read_to_end(&mut text);
            read.map_err(DecodeError::Input)?;
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    explain(&hex::parse(&text)?, given.kind, given.service_action)
}

/// Explains `bytes` as what they are said to be, or what they must be.
///
/// # Errors
///
/// [`DecodeError`]: nobody knows what they are.
fn explain(
    bytes: &[u8],
    kind: Option<Kind>,
    service_action: Option<OutServiceAction>,
) -> Result<Explanation, DecodeError> {
    let kind = match (kind, service_action) {
        (None | Some(Kind::Parameters), Some(_)) => Kind::Parameters,
        (Some(kind), Some(_)) => return Err(DecodeError::ServiceAction(name(&kind))),
        (Some(kind), None) => kind,
        (None, None) => guess(bytes).ok_or(DecodeError::Unknown)?,
    };
    let mut fields = Fields::new(bytes, "");
    let summary = match kind {
        Kind::Cdb => cdb(bytes, &mut fields),
        Kind::Sense => sense::explain(&mut fields, bytes),
        Kind::Parameters => {
            let action = service_action.ok_or(DecodeError::NoServiceAction)?;
            parameters::explain(&mut fields, action, bytes)
        }
        Kind::Keys => data::explain(&mut fields, InServiceAction::ReadKeys, bytes),
        Kind::Reservation => data::explain(&mut fields, InServiceAction::ReadReservation, bytes),
        Kind::Capabilities => {
            data::explain(&mut fields, InServiceAction::ReportCapabilities, bytes)
        }
        Kind::Status => data::explain(&mut fields, InServiceAction::ReadFullStatus, bytes),
    };
    Ok(Explanation {
        kind,
        summary,
        fields: fields.into_fields(),
    })
}

/// What bytes can only be. Keys and generations can begin with any byte, so that a CDB has to be one
/// in full: as long as one, or followed by just the parameter list that it announces.
fn guess(bytes: &[u8]) -> Option<Kind> {
    match bytes {
        [0x5e | 0x5f, rest @ ..] => {
            let length = rest.len().saturating_add(1);
            let is_short = length <= CDB_LENGTH;
            let is_padded = length == PADDED_CDB_LENGTH && padding(bytes).is_some();
            let is_whole = is_short || is_padded || parameter_list(bytes).is_some();
            is_whole.then_some(Kind::Cdb)
        }
        [first, ..] if (0x70..=0x73).contains(&(first & 0x7f)) => Some(Kind::Sense),
        _ => None,
    }
}

/// What follows the zeros behind a CDB in a field of 16 bytes.
fn padding(bytes: &[u8]) -> Option<&[u8]> {
    let (field, rest) = bytes.split_at_checked(PADDED_CDB_LENGTH)?;
    let zeros = field.get(CDB_LENGTH..)?;
    zeros.iter().all(|byte| *byte == 0).then_some(rest)
}

/// The service action and the parameter list behind a CDB that announces just that list.
fn parameter_list(bytes: &[u8]) -> Option<(OutServiceAction, &[u8])> {
    let Ok(Cdb::Out(command)) = Cdb::decode(bytes) else {
        return None;
    };
    let announced = usize::try_from(command.parameter_list_length).ok()?;
    [bytes.get(CDB_LENGTH..), padding(bytes)]
        .into_iter()
        .flatten()
        .find(|list| !list.is_empty() && list.len() == announced)
        .map(|list| (command.service_action, list))
}

/// A CDB, and its parameter list if that is there.
fn cdb(bytes: &[u8], fields: &mut Fields<'_>) -> Result<String, String> {
    parameters::cdb_fields(fields);
    let summary = match Cdb::decode(bytes) {
        Err(CdbError::TooShort { .. }) if bytes.len() >= CDB_LENGTH => {
            return said(Cdb::decode(bytes));
        }
        other => said(other)?,
    };
    if let Some((action, list)) = parameter_list(bytes) {
        let mut list_fields = Fields::new(list, "list ");
        let said = parameters::explain(&mut list_fields, action, list);
        fields.append(list_fields);
        return said.map(|said| format!("{summary}; {said}"));
    }
    match bytes.get(CDB_LENGTH..).unwrap_or_default() {
        [] => Ok(summary),
        _ if padding(bytes).is_some_and(<[u8]>::is_empty) => Ok(summary),
        rest => Err(format!(
            "{summary}; what is behind it, {} bytes, is neither padding to 16 bytes nor the \
             parameter list that it announces",
            rest.len()
        )),
    }
}

/// A value in its own words, or what is wrong, with its causes.
fn said<T: std::fmt::Display, E: std::error::Error + 'static>(
    value: Result<T, E>,
) -> Result<String, String> {
    value
        .map(|value| value.to_string())
        .map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests;
