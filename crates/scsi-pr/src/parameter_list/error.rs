//! What can be wrong with a parameter list, and how a device answers it.

use thiserror::Error;

use crate::cdb::OutServiceAction;
use crate::sense::AdditionalSense;
use crate::transport_id::{TransportIdError, TransportIdListError};

/// Why bytes are no parameter list of a PERSISTENT RESERVE OUT command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParameterListError {
    /// Without TransportIDs the list has 24 bytes, with them more.
    #[error("parameter list of {length} bytes, 24 needed")]
    Length {
        /// How many bytes were given.
        length: usize,
    },
    /// `SPEC_I_PT` is for REGISTER alone.
    #[error("SPEC_I_PT with {0}")]
    SpecIPt(OutServiceAction),
    /// The TransportIDs go on beyond the end of the list.
    #[error("TransportIDs of {declared} bytes, {given} given")]
    TransportIdLength {
        /// Bytes of TransportIDs by their length field; 4 where that field itself is cut off.
        declared: usize,
        /// Bytes that are there.
        given: usize,
    },
    /// A TransportID of `SPEC_I_PT` is wrong.
    #[error(transparent)]
    TransportIdList(#[from] TransportIdListError),
    /// The TransportID of REGISTER AND MOVE is wrong.
    #[error("TransportID of REGISTER AND MOVE is wrong")]
    TransportId(#[from] TransportIdError),
}

impl ParameterListError {
    /// What a device answers, with ILLEGAL REQUEST, to a command with this list.
    ///
    /// PARAMETER LIST LENGTH ERROR for a wrong length without TransportIDs, as SPC-4 (6.16.1) says.
    /// Where TransportIDs are cut off, SPC-4 (6.16.3) leaves the code open: it is INVALID FIELD IN
    /// PARAMETER LIST, as from Linux's target.
    #[must_use]
    pub const fn additional_sense(&self) -> AdditionalSense {
        match self {
            ParameterListError::Length { .. } => AdditionalSense::PARAMETER_LIST_LENGTH_ERROR,
            ParameterListError::SpecIPt(_) | ParameterListError::TransportIdLength { .. } => {
                AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST
            }
            ParameterListError::TransportIdList(error) => error.additional_sense(),
            ParameterListError::TransportId(error) => error.additional_sense(),
        }
    }
}
