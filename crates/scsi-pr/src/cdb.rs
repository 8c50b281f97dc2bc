// SPDX-License-Identifier: MIT OR Apache-2.0

//! The two PERSISTENT RESERVE commands as command descriptor blocks (CDBs).
//!
//! Source: SPC-4, 6.15.1 (PERSISTENT RESERVE IN) and 6.16.1 (PERSISTENT RESERVE OUT).

use std::fmt;

use thiserror::Error;

use crate::reservation::ScopeType;
use crate::wire::Reader;

/// Operation code of PERSISTENT RESERVE IN.
pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
/// Operation code of PERSISTENT RESERVE OUT.
pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;

/// Length of either command in bytes.
const CDB_LENGTH: usize = 10;
/// SERVICE ACTION: the low five bits of byte 1. The other bits are reserved.
const SERVICE_ACTION_MASK: u8 = 0x1f;

wire_enum! {
    /// The service actions of PERSISTENT RESERVE IN: the data to read (SPC-4, 6.15.1).
    pub enum InServiceAction {
        /// 00h: reads all registered keys as [`Keys`](crate::Keys).
        ReadKeys = 0x00, "READ KEYS";
        /// 01h: reads the reservation as [`ReservationData`](crate::ReservationData).
        ReadReservation = 0x01, "READ RESERVATION";
        /// 02h: reads the device's [`Capabilities`](crate::Capabilities).
        ReportCapabilities = 0x02, "REPORT CAPABILITIES";
        /// 03h: reads all registrations as [`FullStatus`](crate::FullStatus).
        ReadFullStatus = 0x03, "READ FULL STATUS";
    }
}

wire_enum! {
    /// The service actions of PERSISTENT RESERVE OUT: the change to make (SPC-4, 6.16.2).
    pub enum OutServiceAction {
        /// 00h: registers a key, replaces it or, with the key zero, removes it.
        Register = 0x00, "REGISTER";
        /// 01h: creates a reservation.
        Reserve = 0x01, "RESERVE";
        /// 02h: releases the reservation.
        Release = 0x02, "RELEASE";
        /// 03h: removes the reservation and all registrations.
        Clear = 0x03, "CLEAR";
        /// 04h: removes the registrations with a key, and takes over their reservation.
        Preempt = 0x04, "PREEMPT";
        /// 05h: like PREEMPT, and aborts the commands of the initiator ports that it unregisters.
        PreemptAndAbort = 0x05, "PREEMPT AND ABORT";
        /// 06h: registers a key, whatever key was registered before.
        RegisterAndIgnoreExistingKey = 0x06, "REGISTER AND IGNORE EXISTING KEY";
        /// 07h: registers a key for another initiator port, and moves the reservation to it.
        RegisterAndMove = 0x07, "REGISTER AND MOVE";
        /// 08h: starts over after the device lost its reservation information (since SPC-4 r26).
        ReplaceLostReservation = 0x08, "REPLACE LOST RESERVATION";
    }
}

/// A PERSISTENT RESERVE IN command (SPC-4, 6.15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentReserveIn {
    /// Data to read.
    pub service_action: InServiceAction,
    /// Maximum length of the data in bytes. The device truncates longer data.
    pub allocation_length: u16,
    /// CONTROL byte.
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

    /// Encodes the command.
    #[must_use]
    pub const fn encode(&self) -> [u8; CDB_LENGTH] {
        let action = self.service_action.code();
        let [high, low] = self.allocation_length.to_be_bytes();
        #[rustfmt::skip]
        let cdb = [PERSISTENT_RESERVE_IN, action, 0, 0, 0, 0, 0, high, low, self.control];
        cdb
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
    /// Change to make.
    pub service_action: OutServiceAction,
    /// Scope and type of the reservation. Ignored if the service action concerns registrations.
    pub scope_type: ScopeType,
    /// Length in bytes of the [`ParameterList`](crate::ParameterList) that the command carries.
    pub parameter_list_length: u32,
    /// CONTROL byte.
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

    /// Encodes the command.
    #[must_use]
    pub const fn encode(&self) -> [u8; CDB_LENGTH] {
        let action = self.service_action.code();
        let ScopeType(scope_type) = self.scope_type;
        let [a, b, c, d] = self.parameter_list_length.to_be_bytes();
        #[rustfmt::skip]
        let cdb = [PERSISTENT_RESERVE_OUT, action, scope_type, 0, 0, a, b, c, d, self.control];
        cdb
    }
}

impl fmt::Display for PersistentReserveOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PERSISTENT RESERVE OUT {}", self.service_action)?;
        let ignores_type = matches!(
            self.service_action,
            OutServiceAction::Register
                | OutServiceAction::Clear
                | OutServiceAction::RegisterAndIgnoreExistingKey
        );
        if !ignores_type {
            write!(f, ", type {}", self.scope_type)?;
        }
        write!(f, ", parameter list length {}", self.parameter_list_length)
    }
}

/// A PERSISTENT RESERVE command.
///
/// ```
/// # use scsi_pr::{Cdb, OutServiceAction};
/// let cdb = Cdb::decode(&[0x5f, 0x05, 0x05, 0, 0, 0, 0, 0, 24, 0])?;
/// let Cdb::Out(command) = cdb else { panic!("not PERSISTENT RESERVE OUT") };
/// assert_eq!(command.service_action, OutServiceAction::PreemptAndAbort);
/// assert_eq!(
///     cdb.to_string(),
///     "PERSISTENT RESERVE OUT PREEMPT AND ABORT, type Write Exclusive - Registrants Only, \
///      parameter list length 24"
/// );
/// # Ok::<(), scsi_pr::CdbError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cdb {
    /// PERSISTENT RESERVE IN: reads keys, reservation, capabilities or full status.
    In(PersistentReserveIn),
    /// PERSISTENT RESERVE OUT: changes registrations or the reservation.
    Out(PersistentReserveOut),
}

impl Cdb {
    /// Decodes a command from the first 10 of `bytes`.
    ///
    /// Further bytes are ignored, so that `bytes` can be a zero-padded field of 16. Reserved fields
    /// are ignored. The values of scope and type are not checked.
    ///
    /// # Errors
    ///
    /// Returns [`CdbError`] if `bytes` is too short, or if the operation code or the service action
    /// is unknown.
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

    /// Encodes the command. Reserved fields are zero.
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

/// The reason that bytes are not a PERSISTENT RESERVE command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CdbError {
    /// The CDB has fewer than 10 bytes.
    #[error("CDB too short: {length} of 10 bytes")]
    TooShort {
        /// Length of the CDB in bytes.
        length: usize,
    },
    /// The operation code belongs to another command.
    #[error("operation code {0:#04x} is not a PERSISTENT RESERVE command")]
    Opcode(u8),
    /// The service action is reserved.
    #[error("service action {code:#04x} of operation code {opcode:#04x} is reserved")]
    ServiceAction {
        /// [`PERSISTENT_RESERVE_IN`] or [`PERSISTENT_RESERVE_OUT`].
        opcode: u8,
        /// Number of the service action, 0 to 31.
        code: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_action_codes_round_trip() {
        for (code, action) in (0..).zip(InServiceAction::ALL) {
            assert_eq!(action.code(), code);
            assert_eq!(InServiceAction::from_code(code), Some(action));
        }
        for (code, action) in (0..).zip(OutServiceAction::ALL) {
            assert_eq!(action.code(), code);
            assert_eq!(OutServiceAction::from_code(code), Some(action));
        }
    }
}
