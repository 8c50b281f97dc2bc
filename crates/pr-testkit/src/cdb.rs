// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands: a CDB with its parameter list.

use pr_helper_protocol::wire::{CDB_SIZE, CLEANUP, pad_cdb};
use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, RegisterAndMove, ReservationType, ScopeType,
};

/// A CDB and its parameter list, as a client sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrCommand {
    /// CDB, padded with zeros.
    pub cdb: [u8; CDB_SIZE],
    /// Parameter list; empty unless the command is PERSISTENT RESERVE OUT.
    pub parameter_list: Vec<u8>,
}

impl PrCommand {
    /// Returns the CDB followed by the parameter list.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&self.cdb, self.parameter_list.as_slice()].concat()
    }
}

/// Creates PERSISTENT RESERVE IN.
#[must_use]
pub fn pr_in(service_action: InServiceAction, allocation_length: u16) -> PrCommand {
    let command = Cdb::In(PersistentReserveIn {
        service_action,
        allocation_length,
        control: 0,
    });
    PrCommand {
        cdb: pad_cdb(&command.encode()),
        parameter_list: Vec::new(),
    }
}

/// Creates READ KEYS.
#[must_use]
pub fn read_keys(allocation_length: u16) -> PrCommand {
    pr_in(InServiceAction::ReadKeys, allocation_length)
}

/// Creates READ RESERVATION.
#[must_use]
pub fn read_reservation(allocation_length: u16) -> PrCommand {
    pr_in(InServiceAction::ReadReservation, allocation_length)
}

/// Creates REPORT CAPABILITIES.
#[must_use]
pub fn report_capabilities(allocation_length: u16) -> PrCommand {
    pr_in(InServiceAction::ReportCapabilities, allocation_length)
}

/// Creates READ FULL STATUS.
#[must_use]
pub fn read_full_status(allocation_length: u16) -> PrCommand {
    pr_in(InServiceAction::ReadFullStatus, allocation_length)
}

/// Creates PERSISTENT RESERVE OUT.
#[must_use]
pub fn pr_out(
    service_action: OutServiceAction,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> PrCommand {
    raw_pr_out(service_action, scope_type, list.encode())
}

/// Creates PERSISTENT RESERVE OUT with any parameter list, also an invalid one.
#[must_use]
pub fn raw_pr_out(
    service_action: OutServiceAction,
    scope_type: ScopeType,
    parameter_list: Vec<u8>,
) -> PrCommand {
    let command = Cdb::Out(PersistentReserveOut {
        service_action,
        scope_type,
        parameter_list_length: parameter_list.len().try_into().unwrap(),
        control: 0,
    });
    PrCommand {
        cdb: pad_cdb(&command.encode()),
        parameter_list,
    }
}

/// Creates a basic parameter list with both keys.
#[must_use]
pub fn key_list(key: u64, action_key: u64) -> BasicParameterList {
    BasicParameterList {
        reservation_key: key.into(),
        service_action_reservation_key: action_key.into(),
        ..BasicParameterList::default()
    }
}

/// Creates REGISTER, which replaces `key` by `new_key`.
#[must_use]
pub fn register(key: u64, new_key: u64) -> PrCommand {
    register_with(&key_list(key, new_key))
}

/// Creates REGISTER.
#[must_use]
pub fn register_with(list: &BasicParameterList) -> PrCommand {
    pr_out(OutServiceAction::Register, ScopeType::default(), list)
}

/// Creates REGISTER AND IGNORE EXISTING KEY, which registers `new_key`.
#[must_use]
pub fn register_and_ignore(new_key: u64) -> PrCommand {
    register_and_ignore_with(&key_list(0, new_key))
}

/// Creates REGISTER AND IGNORE EXISTING KEY.
#[must_use]
pub fn register_and_ignore_with(list: &BasicParameterList) -> PrCommand {
    let service_action = OutServiceAction::RegisterAndIgnoreExistingKey;
    pr_out(service_action, ScopeType::default(), list)
}

/// Creates REGISTER AND MOVE.
#[must_use]
pub fn register_and_move(list: &RegisterAndMove) -> PrCommand {
    let service_action = OutServiceAction::RegisterAndMove;
    raw_pr_out(service_action, ScopeType::default(), list.encode())
}

/// Creates RESERVE with the scope of the logical unit.
#[must_use]
pub fn reserve(key: u64, kind: ReservationType) -> PrCommand {
    pr_out(OutServiceAction::Reserve, kind.into(), &key_list(key, 0))
}

/// Creates RELEASE with the scope of the logical unit.
#[must_use]
pub fn release(key: u64, kind: ReservationType) -> PrCommand {
    pr_out(OutServiceAction::Release, kind.into(), &key_list(key, 0))
}

/// Creates CLEAR.
#[must_use]
pub fn clear(key: u64) -> PrCommand {
    let action = OutServiceAction::Clear;
    pr_out(action, ScopeType::default(), &key_list(key, 0))
}

/// Creates CLEANUP, a command of the protocol itself.
#[must_use]
pub fn cleanup() -> PrCommand {
    PrCommand {
        cdb: pad_cdb(&[CLEANUP]),
        parameter_list: Vec::new(),
    }
}

/// Creates PREEMPT, which removes the registrations with the key `victim`.
#[must_use]
pub fn preempt(key: u64, victim: u64, kind: ReservationType) -> PrCommand {
    let list = key_list(key, victim);
    pr_out(OutServiceAction::Preempt, kind.into(), &list)
}

/// Creates PREEMPT AND ABORT, which removes the registrations with the key `victim`.
#[must_use]
pub fn preempt_and_abort(key: u64, victim: u64, kind: ReservationType) -> PrCommand {
    let list = key_list(key, victim);
    pr_out(OutServiceAction::PreemptAndAbort, kind.into(), &list)
}
