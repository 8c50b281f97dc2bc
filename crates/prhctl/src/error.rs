//! What can go wrong with a command.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::{Direction, Response};
use scsi_pr::{
    Cdb, InServiceAction, Keys, ParameterDataError, ParameterList, ReservationData, Sense,
    SenseKey, Status,
};
use soft_lun::store::StoreError;
use thiserror::Error;

use crate::chain::chain;
use crate::commands::decode::DecodeError;
use crate::commands::demo::{HelperError, StageError};
use crate::exit::Exit;

/// A command that was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why.
    pub(crate) error: Error,
    /// The device that it was about.
    pub(crate) device: Option<PathBuf>,
    /// The unit attentions that were delivered on the way.
    pub(crate) attentions: Vec<Sense>,
}

impl<E: Into<Error>> From<E> for Box<Failure> {
    fn from(error: E) -> Self {
        Box::new(Failure {
            error: error.into(),
            device: None,
            attentions: Vec::new(),
        })
    }
}

/// Why a command was not done. What to do then is [`crate::advice`].
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The device cannot be opened.
    #[error("{}: cannot open it for {}", path.display(), purpose(*direction))]
    Open {
        /// The device.
        path: PathBuf,
        /// For what it should be opened.
        direction: Direction,
        /// Why not.
        source: io::Error,
    },
    /// There is no connection to the helper.
    #[error("{}", socket.display())]
    Connect {
        /// Where the helper should be.
        socket: PathBuf,
        /// Why not.
        source: ClientError,
    },
    /// The helper did not answer as the protocol says.
    #[error("{}: {}", device.display(), service_action(*command))]
    Exchange {
        /// What it was asked.
        command: Cdb,
        /// About which device.
        device: PathBuf,
        /// What it did.
        source: ClientError,
    },
    /// The command ended with another status than GOOD.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// It ended with GOOD, but the parameter data are none.
    #[error("{}: the answer to {action} makes no sense", device.display())]
    Malformed {
        /// The device.
        device: PathBuf,
        /// What was asked for.
        action: InServiceAction,
        /// What is wrong.
        source: ParameterDataError,
    },
    /// The TransportIDs are more than the protocol carries.
    #[error("the initiator ports given need more than the 8192 bytes that a helper takes")]
    TooManyInitiators,
    /// Bytes could not be explained.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A soft LUN cannot be used.
    #[error(transparent)]
    Lun(#[from] StoreError),
    /// There is no helper to demonstrate with.
    #[error(transparent)]
    Program(#[from] HelperError),
    /// A demonstration could not be played.
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl Error {
    /// The exit status.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Error::Refused(refusal) => Exit::of(refusal.status, refusal.sense.as_ref()),
            Error::Malformed { .. } => Exit::MALFORMED,
            Error::Open { .. }
            | Error::Connect { .. }
            | Error::Exchange { .. }
            | Error::TooManyInitiators
            | Error::Decode(_)
            | Error::Lun(_)
            | Error::Program(_)
            | Error::Stage(_) => Exit::FAILURE,
        }
    }

    /// What the device said, if it was the device.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What failed, on what, and why, in one line.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// What a device is opened for.
const fn purpose(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "reading",
        Direction::Out => "reading and writing",
    }
}

/// The standard's name of what a command does.
pub(crate) fn service_action(command: Cdb) -> String {
    match command {
        Cdb::In(command) => command.service_action.to_string(),
        Cdb::Out(command) => command.service_action.to_string(),
    }
}

/// A command that ended with another status than GOOD.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The command.
    pub(crate) command: Cdb,
    /// The device.
    pub(crate) device: PathBuf,
    /// The status.
    pub(crate) status: Status,
    /// Why, with CHECK CONDITION, as far as that can be read.
    pub(crate) sense: Option<Sense>,
    /// The parameter list, of a command that changes.
    pub(crate) parameters: Option<ParameterList>,
    /// What asking brought, after a RESERVATION CONFLICT.
    pub(crate) inquiry: Inquiry,
}

/// What asking brought, after a RESERVATION CONFLICT.
#[derive(Clone, Debug)]
pub(crate) enum Inquiry {
    /// Nothing, or nobody has asked.
    Silent,
    /// Another RESERVATION CONFLICT.
    Refused,
    /// An answer.
    Said(Conflict),
}

/// Who is registered, and who holds the reservation.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    /// The registered keys.
    pub(crate) keys: Keys,
    /// How much of their list is missing.
    pub(crate) missing_bytes: usize,
    /// The reservation.
    pub(crate) reservation: ReservationData,
}

impl Refusal {
    /// What an answer other than GOOD says.
    pub(crate) fn new(command: Cdb, device: &Path, response: &Response) -> Self {
        let sense = (response.status == Status::CHECK_CONDITION)
            .then(|| Sense::decode(&response.sense).ok())
            .flatten();
        Refusal {
            command,
            device: device.to_owned(),
            status: response.status,
            sense,
            parameters: None,
            inquiry: Inquiry::Silent,
        }
    }

    /// The unit attention that came instead of an answer.
    pub(crate) fn attention(&self) -> Option<Sense> {
        self.sense.filter(is_attention)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = service_action(self.command);
        write!(f, "{}: {action} ended with ", self.device.display())?;
        match (&self.sense, self.status) {
            (Some(sense), _) => sense.fmt(f),
            (None, Status::CHECK_CONDITION) => {
                f.write_str("CHECK CONDITION, and sense data that says nothing")
            }
            (None, status) => status.fmt(f),
        }
    }
}

/// Whether sense tells of a unit attention of the current command.
fn is_attention(sense: &Sense) -> bool {
    sense.key == SenseKey::UnitAttention && !sense.deferred
}

#[cfg(test)]
impl Refusal {
    /// One that a test makes up; sense is its key, additional sense code and qualifier.
    pub(crate) fn for_test(
        command: Cdb,
        device: &Path,
        status: u8,
        sense: Option<(u8, u8, u8)>,
    ) -> Self {
        let mut response = Response {
            status: Status(status),
            sense: [0; 96],
            data: Vec::new(),
        };
        if let Some((key, asc, ascq)) = sense {
            let code = scsi_pr::AdditionalSense { asc, ascq };
            let sense = Sense::new(SenseKey::from_low_bits(key), code).to_fixed();
            response.sense[..18].copy_from_slice(&sense);
        }
        Refusal::new(command, device, &response)
    }
}
