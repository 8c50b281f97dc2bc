// SPDX-License-Identifier: MIT OR Apache-2.0

//! Responses to commands.

use scsi_pr::{AdditionalSense, ParameterListError, Sense, SenseKey, Status};

use crate::state::UnitAttention;

/// The response to a command, as the initiator port receives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// GOOD, CHECK CONDITION or RESERVATION CONFLICT.
    pub status: Status,
    /// Sense data, present with CHECK CONDITION only.
    pub sense: Option<Sense>,
    /// Parameter data, truncated to the allocation length. Empty unless the status is GOOD.
    pub data: Vec<u8>,
}

impl Response {
    const fn new(status: Status, sense: Option<Sense>, data: Vec<u8>) -> Self {
        Response {
            status,
            sense,
            data,
        }
    }

    /// Creates a response with status GOOD.
    pub(crate) const fn good(data: Vec<u8>) -> Self {
        Response::new(Status::GOOD, None, data)
    }

    const fn check_condition(key: SenseKey, code: AdditionalSense) -> Self {
        let sense = Sense::new(key, code);
        Response::new(Status::CHECK_CONDITION, Some(sense), Vec::new())
    }
}

impl From<UnitAttention> for Response {
    fn from(attention: UnitAttention) -> Self {
        Response::check_condition(SenseKey::UnitAttention, attention.additional_sense())
    }
}

/// The reason why a command is not executed. A function that returns it has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandError {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST.
    Illegal(AdditionalSense),
}

impl CommandError {
    pub(crate) const INVALID_OPCODE: Self =
        Self::Illegal(AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
    pub(crate) const INVALID_CDB: Self = Self::Illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
    pub(crate) const INVALID_PARAMETER_LIST: Self =
        Self::Illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
    pub(crate) const PARAMETER_LIST_LENGTH_ERROR: Self =
        Self::Illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    pub(crate) const INVALID_RELEASE: Self =
        Self::Illegal(AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
    pub(crate) const LOGICAL_UNIT_NOT_SUPPORTED: Self =
        Self::Illegal(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
}

impl From<ParameterListError> for CommandError {
    fn from(error: ParameterListError) -> Self {
        CommandError::Illegal(error.additional_sense())
    }
}

impl From<CommandError> for Response {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Conflict => Response::new(Status::RESERVATION_CONFLICT, None, Vec::new()),
            CommandError::Illegal(code) => {
                Response::check_condition(SenseKey::IllegalRequest, code)
            }
        }
    }
}
