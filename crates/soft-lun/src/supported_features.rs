// SPDX-License-Identifier: MIT OR Apache-2.0

//! Optional features, which the standard leaves to the device server.
//!
//! Source: SPC-4, 6.15.4 for the fields; 6.16.3 for commands that use a feature which the unit
//! does not support.

use scsi_pr::{BasicParameterList, ReservationType, Scope, ScopeType, TypeMask};

use crate::response::CommandError;

/// The features that a unit supports, as REPORT CAPABILITIES reports them. The default is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SupportedFeatures {
    /// `PTPL_C`: registrations and reservation can persist through a power loss (`APTPL`).
    pub persist_through_power_loss: bool,
    /// `SIP_C`: a REGISTER can specify other initiator ports (`SPEC_I_PT`).
    pub specify_initiator_ports: bool,
    /// `ATP_C`: a registration can apply to all target ports (`ALL_TG_PT`).
    pub all_target_ports: bool,
    /// The reservation types that the unit supports.
    pub types: TypeMask,
}

impl Default for SupportedFeatures {
    fn default() -> Self {
        SupportedFeatures {
            persist_through_power_loss: true,
            specify_initiator_ports: true,
            all_target_ports: true,
            types: TypeMask::ALL,
        }
    }
}

impl SupportedFeatures {
    /// Checks the flags of a REGISTER. An unsupported flag is INVALID FIELD IN PARAMETER LIST.
    pub(crate) fn check(&self, list: &BasicParameterList) -> Result<(), CommandError> {
        let unsupported = list.spec_i_pt.is_some() && !self.specify_initiator_ports
            || list.all_tg_pt && !self.all_target_ports;
        if unsupported {
            return Err(CommandError::INVALID_PARAMETER_LIST);
        }
        self.check_aptpl(list.aptpl)
    }

    /// Checks `APTPL`. The unsupported flag is INVALID FIELD IN PARAMETER LIST.
    pub(crate) fn check_aptpl(&self, aptpl: bool) -> Result<(), CommandError> {
        let supported = !aptpl || self.persist_through_power_loss;
        supported
            .then_some(())
            .ok_or(CommandError::INVALID_PARAMETER_LIST)
    }

    /// Returns the type of a new reservation. A scope other than the logical unit, and a reserved
    /// or unsupported type, are INVALID FIELD IN CDB (SPC-4, 6.15.3.3 and 6.15.3.4).
    pub(crate) fn check_type(
        &self,
        scope_type: ScopeType,
    ) -> Result<ReservationType, CommandError> {
        match (scope_type.scope(), scope_type.reservation_type()) {
            (Some(Scope::LogicalUnit), Some(kind)) if self.types.contains(kind) => Ok(kind),
            _ => Err(CommandError::INVALID_CDB),
        }
    }
}
