//! Commands: a CDB with its parameter list.

use pr_helper_protocol::wire::{CDB_SIZE, pad_cdb};
use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, ReservationType, ScopeType,
};

/// A CDB and its parameter list, as a client sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrCommand {
    /// CDB, padded with zeros.
    pub cdb: [u8; CDB_SIZE],
    /// Parameter list; empty for PERSISTENT RESERVE IN.
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

/// Creates PERSISTENT RESERVE OUT.
#[must_use]
pub fn pr_out(
    service_action: OutServiceAction,
    scope_type: ScopeType,
    list: &BasicParameterList,
) -> PrCommand {
    let parameter_list = list.encode();
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
    let list = key_list(key, new_key);
    pr_out(OutServiceAction::Register, ScopeType::default(), &list)
}

/// Creates RESERVE with the scope of the logical unit.
#[must_use]
pub fn reserve(key: u64, reservation_type: ReservationType) -> PrCommand {
    let scope_type = ScopeType(reservation_type.code());
    pr_out(OutServiceAction::Reserve, scope_type, &key_list(key, 0))
}

/// Creates CLEAR.
#[must_use]
pub fn clear(key: u64) -> PrCommand {
    let list = key_list(key, 0);
    pr_out(OutServiceAction::Clear, ScopeType::default(), &list)
}

/// Creates PREEMPT, which removes the registrations with the key `victim`.
#[must_use]
pub fn preempt(key: u64, victim: u64, reservation_type: ReservationType) -> PrCommand {
    let scope_type = ScopeType(reservation_type.code());
    let list = key_list(key, victim);
    pr_out(OutServiceAction::Preempt, scope_type, &list)
}
