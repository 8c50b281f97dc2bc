//! What a unit supports: the parts that the standard leaves to the device server.
//!
//! Source: SPC-4, 6.15.4, whose fields these are; 6.16.3 for what becomes of a command that asks for more.

use scsi_pr::{BasicParameterList, ReservationType, Scope, ScopeType, TypeMask};

use crate::answer::CommandError;

/// What REPORT CAPABILITIES says of a unit. Everything, by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SupportedFeatures {
    /// `PTPL_C`: registrations and reservation can outlast a loss of power (`APTPL`).
    pub persist_through_power_loss: bool,
    /// `SIP_C`: a REGISTER can name other initiator ports (`SPEC_I_PT`).
    pub specify_initiator_ports: bool,
    /// `ATP_C`: a registration can be for all target ports (`ALL_TG_PT`).
    pub all_target_ports: bool,
    /// The types of reservation that can be made.
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
    /// # Errors
    ///
    /// INVALID FIELD IN PARAMETER LIST: the list asks for what there is not.
    pub(crate) const fn check(&self, list: &BasicParameterList) -> Result<(), CommandError> {
        let asks_for_more = list.spec_i_pt.is_some() && !self.specify_initiator_ports
            || list.all_tg_pt && !self.all_target_ports;
        match asks_for_more {
            true => Err(CommandError::PARAMETER_LIST),
            false => self.check_aptpl(list.aptpl),
        }
    }

    /// # Errors
    ///
    /// INVALID FIELD IN PARAMETER LIST: nothing of this unit outlasts a loss of power.
    pub(crate) const fn check_aptpl(&self, aptpl: bool) -> Result<(), CommandError> {
        match aptpl && !self.persist_through_power_loss {
            true => Err(CommandError::PARAMETER_LIST),
            false => Ok(()),
        }
    }

    /// The type of a reservation to be made: of the logical unit, and one that there is.
    ///
    /// # Errors
    ///
    /// INVALID FIELD IN CDB (SPC-4, 6.15.3.3 and 6.15.3.4).
    pub(crate) fn kind_to_reserve(
        &self,
        asked: ScopeType,
    ) -> Result<ReservationType, CommandError> {
        match (asked.scope(), asked.reservation_type()) {
            (Some(Scope::LogicalUnit), Some(kind)) if self.types.contains(kind) => Ok(kind),
            _ => Err(CommandError::CDB),
        }
    }
}
