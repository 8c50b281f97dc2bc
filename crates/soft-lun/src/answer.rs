//! How a command ended.

use scsi_pr::{AdditionalSense, ParameterListError, Sense, SenseKey, Status};

use crate::attention::UnitAttention;

/// What an initiator port gets for a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// GOOD, CHECK CONDITION or RESERVATION CONFLICT.
    pub status: Status,
    /// Why, with CHECK CONDITION alone.
    pub sense: Option<Sense>,
    /// Parameter data, cut off at the allocation length; empty with any status but GOOD.
    pub data: Vec<u8>,
}

impl Response {
    /// GOOD with parameter data.
    pub(crate) const fn good(data: Vec<u8>) -> Self {
        Response {
            status: Status::GOOD,
            sense: None,
            data,
        }
    }

    const fn check_condition(key: SenseKey, code: AdditionalSense) -> Self {
        Response {
            status: Status::CHECK_CONDITION,
            sense: Some(Sense::new(key, code)),
            data: Vec::new(),
        }
    }
}

impl From<UnitAttention> for Response {
    fn from(attention: UnitAttention) -> Self {
        Response::check_condition(SenseKey::UnitAttention, attention.additional_sense())
    }
}

/// Why a command is not done. Whoever returns one has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandError {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST.
    Illegal(AdditionalSense),
}

impl CommandError {
    pub(crate) const OPERATION_CODE: CommandError =
        CommandError::Illegal(AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
    pub(crate) const CDB: CommandError =
        CommandError::Illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
    pub(crate) const PARAMETER_LIST: CommandError =
        CommandError::Illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
    pub(crate) const PARAMETER_LIST_LENGTH: CommandError =
        CommandError::Illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    pub(crate) const RELEASE: CommandError =
        CommandError::Illegal(AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
    pub(crate) const LOGICAL_UNIT: CommandError =
        CommandError::Illegal(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
}

impl From<ParameterListError> for CommandError {
    fn from(error: ParameterListError) -> Self {
        CommandError::Illegal(error.additional_sense())
    }
}

impl From<CommandError> for Response {
    fn from(refusal: CommandError) -> Self {
        match refusal {
            CommandError::Conflict => Response {
                status: Status::RESERVATION_CONFLICT,
                sense: None,
                data: Vec::new(),
            },
            CommandError::Illegal(code) => {
                Response::check_condition(SenseKey::IllegalRequest, code)
            }
        }
    }
}
