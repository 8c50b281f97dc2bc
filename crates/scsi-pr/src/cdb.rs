//! The two commands of persistent reservations as they stand in a command descriptor block.
//!
//! Source: SPC-4, 6.15.1 (PERSISTENT RESERVE IN) and 6.16.1 (PERSISTENT RESERVE OUT).

mod service_action;

use std::fmt;

use thiserror::Error;

use crate::reservation::ScopeType;
use crate::wire::Reader;

pub use service_action::{InServiceAction, OutServiceAction};

/// Operation code of PERSISTENT RESERVE IN.
pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
/// Operation code of PERSISTENT RESERVE OUT.
pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;

/// Bytes of either command.
const CDB_LENGTH: usize = 10;
/// SERVICE ACTION is the low five bits of byte 1; the others are reserved.
const SERVICE_ACTION_MASK: u8 = 0x1f;

/// A PERSISTENT RESERVE IN command (SPC-4, 6.15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentReserveIn {
    /// What is asked for.
    pub service_action: InServiceAction,
    /// How many bytes the answer may have; a longer one is cut off.
    pub allocation_length: u16,
    /// The CONTROL byte.
    pub control: u8,
}

impl PersistentReserveIn {
    fn decode(service_action: InServiceAction, mut fields: Reader<'_>) -> Option<Self> {
        fields.skip(5)?;
        Some(PersistentReserveIn {
            service_action,
            allocation_length: fields.u16()?,
            control: fields.u8()?,
        })
    }

    /// The bytes of the command.
    #[must_use]
    pub const fn encode(&self) -> [u8; CDB_LENGTH] {
        let action = self.service_action.code();
        let [high, low] = self.allocation_length.to_be_bytes();
        [
            PERSISTENT_RESERVE_IN,
            action,
            0,
            0,
            0,
            0,
            0,
            high,
            low,
            self.control,
        ]
    }
}

impl fmt::Display for PersistentReserveIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PERSISTENT RESERVE IN {}, allocation length {}",
            self.service_action, self.allocation_length
        )
    }
}

/// A PERSISTENT RESERVE OUT command (SPC-4, 6.16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentReserveOut {
    /// What is changed.
    pub service_action: OutServiceAction,
    /// Scope and type of the reservation; ignored where the service action is about registrations.
    pub scope_type: ScopeType,
    /// How many bytes of parameters go with the command: see [`ParameterList`](crate::ParameterList).
    pub parameter_list_length: u32,
    /// The CONTROL byte.
    pub control: u8,
}

impl PersistentReserveOut {
    fn decode(service_action: OutServiceAction, mut fields: Reader<'_>) -> Option<Self> {
        let scope_type = ScopeType(fields.u8()?);
        fields.skip(2)?;
        Some(PersistentReserveOut {
            service_action,
            scope_type,
            parameter_list_length: fields.u32()?,
            control: fields.u8()?,
        })
    }

    /// The bytes of the command.
    #[must_use]
    pub const fn encode(&self) -> [u8; CDB_LENGTH] {
        let action = self.service_action.code();
        let scope_type = self.scope_type.0;
        let [a, b, c, d] = self.parameter_list_length.to_be_bytes();
        [
            PERSISTENT_RESERVE_OUT,
            action,
            scope_type,
            0,
            0,
            a,
            b,
            c,
            d,
            self.control,
        ]
    }
}

impl fmt::Display for PersistentReserveOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PERSISTENT RESERVE OUT {}", self.service_action)?;
        if !self.service_action.ignores_type() {
            write!(f, ", type {}", self.scope_type)?;
        }
        write!(f, ", parameter list length {}", self.parameter_list_length)
    }
}

/// A command of persistent reservations.
///
/// ```
/// # use scsi_pr::{Cdb, OutServiceAction};
/// let cdb = Cdb::decode(&[0x5f, 0x05, 0x05, 0, 0, 0, 0, 0, 24, 0])?;
/// assert!(matches!(cdb, Cdb::Out(out) if out.service_action == OutServiceAction::PreemptAndAbort));
/// assert_eq!(
///     cdb.to_string(),
///     "PERSISTENT RESERVE OUT PREEMPT AND ABORT, type Write Exclusive - Registrants Only, \
///      parameter list length 24"
/// );
/// # Ok::<(), scsi_pr::CdbError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cdb {
    /// It asks.
    In(PersistentReserveIn),
    /// It changes.
    Out(PersistentReserveOut),
}

impl Cdb {
    /// Reads a command from the first 10 of `bytes`.
    ///
    /// More bytes may follow and are not looked at, so that a CDB in a zero-padded field of 16 can
    /// be given whole. Reserved fields are ignored; the values of scope and type are not checked.
    ///
    /// # Errors
    ///
    /// [`CdbError`]: too few bytes, another command, or a reserved service action.
    pub fn decode(bytes: &[u8]) -> Result<Self, CdbError> {
        let too_short = CdbError::TooShort {
            length: bytes.len(),
        };
        let mut fields = Reader::new(bytes.get(..CDB_LENGTH).ok_or(too_short)?);
        let [opcode, second] = fields.array().ok_or(too_short)?;
        let code = second & SERVICE_ACTION_MASK;
        let reserved = CdbError::ServiceAction { opcode, code };
        match opcode {
            PERSISTENT_RESERVE_IN => {
                let action = InServiceAction::from_code(code).ok_or(reserved)?;
                PersistentReserveIn::decode(action, fields).map(Cdb::In)
            }
            PERSISTENT_RESERVE_OUT => {
                let action = OutServiceAction::from_code(code).ok_or(reserved)?;
                PersistentReserveOut::decode(action, fields).map(Cdb::Out)
            }
            _ => return Err(CdbError::Opcode(opcode)),
        }
        .ok_or(too_short)
    }

    /// The bytes of the command; reserved fields are zero.
    #[must_use]
    pub const fn encode(&self) -> [u8; CDB_LENGTH] {
        match self {
            Cdb::In(command) => command.encode(),
            Cdb::Out(command) => command.encode(),
        }
    }
}

impl From<PersistentReserveIn> for Cdb {
    fn from(command: PersistentReserveIn) -> Self {
        Cdb::In(command)
    }
}

impl From<PersistentReserveOut> for Cdb {
    fn from(command: PersistentReserveOut) -> Self {
        Cdb::Out(command)
    }
}

impl fmt::Display for Cdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cdb::In(command) => command.fmt(f),
            Cdb::Out(command) => command.fmt(f),
        }
    }
}

/// Why bytes are no command of persistent reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CdbError {
    /// Both commands have 10 bytes.
    #[error("CDB of {length} bytes, 10 needed")]
    TooShort {
        /// How many bytes were given.
        length: usize,
    },
    /// It is another command, with this operation code.
    #[error("operation code {0:#04x} is no PERSISTENT RESERVE command")]
    Opcode(u8),
    /// The service action is reserved.
    #[error("service action {code:#04x} of operation code {opcode:#04x} is reserved")]
    ServiceAction {
        /// [`PERSISTENT_RESERVE_IN`] or [`PERSISTENT_RESERVE_OUT`].
        opcode: u8,
        /// The number of the service action, 0 to 31.
        code: u8,
    },
}
