//! How a command ended.

use scsi_pr::{AdditionalSense, ParameterListError, Sense, SenseKey, Status};

use crate::attention::Attention;

/// What an initiator port gets for a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// GOOD, CHECK CONDITION or RESERVATION CONFLICT.
    pub status: Status,
    /// Why, with CHECK CONDITION alone.
    pub sense: Option<Sense>,
    /// Parameter data, cut off at the allocation length; empty with any status but GOOD.
    pub data: Vec<u8>,
}

impl Answer {
    /// GOOD with parameter data.
    pub(crate) const fn good(data: Vec<u8>) -> Self {
        Answer {
            status: Status::GOOD,
            sense: None,
            data,
        }
    }

    const fn check_condition(key: SenseKey, code: AdditionalSense) -> Self {
        Answer {
            status: Status::CHECK_CONDITION,
            sense: Some(Sense::new(key, code)),
            data: Vec::new(),
        }
    }
}

impl From<Attention> for Answer {
    fn from(attention: Attention) -> Self {
        Answer::check_condition(SenseKey::UnitAttention, attention.additional_sense())
    }
}

/// Why a command is not done. Whoever returns one has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST.
    Illegal(AdditionalSense),
}

impl Refusal {
    pub(crate) const OPERATION_CODE: Refusal =
        Refusal::Illegal(AdditionalSense::INVALID_COMMAND_OPERATION_CODE);
    pub(crate) const CDB: Refusal = Refusal::Illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
    pub(crate) const PARAMETER_LIST: Refusal =
        Refusal::Illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
    pub(crate) const PARAMETER_LIST_LENGTH: Refusal =
        Refusal::Illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    pub(crate) const RELEASE: Refusal =
        Refusal::Illegal(AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
    pub(crate) const LOGICAL_UNIT: Refusal =
        Refusal::Illegal(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
}

impl From<ParameterListError> for Refusal {
    fn from(error: ParameterListError) -> Self {
        Refusal::Illegal(error.additional_sense())
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict => Answer {
                status: Status::RESERVATION_CONFLICT,
                sense: None,
                data: Vec::new(),
            },
            Refusal::Illegal(code) => Answer::check_condition(SenseKey::IllegalRequest, code),
        }
    }
}
