//! What goes with a PERSISTENT RESERVE OUT command: keys, flags, TransportIDs.
//!
//! Source: SPC-4, 6.16.3 and 6.16.4.

mod basic;
mod error;
mod register_and_move;

use std::fmt;

use crate::cdb::OutServiceAction;

pub use basic::BasicParameterList;
pub use error::ParameterListError;
pub use register_and_move::RegisterAndMove;

/// Bytes of either list, without TransportIDs.
const HEADER_LENGTH: usize = 24;

/// The parameter list of a PERSISTENT RESERVE OUT command.
///
/// ```
/// # use scsi_pr::{AdditionalSense, OutServiceAction, ParameterList};
/// let mut bytes = [0; 24];
/// bytes[14..16].copy_from_slice(&[0x12, 0x34]);
/// let list = ParameterList::decode(OutServiceAction::Register, &bytes)?;
/// assert_eq!(list.to_string(), "key 0x0, service action key 0x1234");
///
/// let error = ParameterList::decode(OutServiceAction::Register, &bytes[..20]).unwrap_err();
/// assert_eq!(error.additional_sense(), AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
/// # Ok::<(), scsi_pr::ParameterListError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParameterList {
    /// That of all service actions but one.
    Basic(BasicParameterList),
    /// That of REGISTER AND MOVE.
    RegisterAndMove(RegisterAndMove),
}

impl ParameterList {
    /// Reads the list that came with `service_action`.
    ///
    /// # Errors
    ///
    /// [`ParameterListError`], and what a device answers to it.
    pub fn decode(
        service_action: OutServiceAction,
        bytes: &[u8],
    ) -> Result<Self, ParameterListError> {
        match service_action {
            OutServiceAction::RegisterAndMove => {
                RegisterAndMove::decode(bytes).map(ParameterList::RegisterAndMove)
            }
            _ => BasicParameterList::decode(service_action, bytes).map(ParameterList::Basic),
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            ParameterList::Basic(list) => list.encode(),
            ParameterList::RegisterAndMove(list) => list.encode(),
        }
    }
}

impl From<BasicParameterList> for ParameterList {
    fn from(list: BasicParameterList) -> Self {
        ParameterList::Basic(list)
    }
}

impl From<RegisterAndMove> for ParameterList {
    fn from(list: RegisterAndMove) -> Self {
        ParameterList::RegisterAndMove(list)
    }
}

impl fmt::Display for ParameterList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParameterList::Basic(list) => list.fmt(f),
            ParameterList::RegisterAndMove(list) => list.fmt(f),
        }
    }
}
