// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors of commands to a device, and how every error is reported.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use cli_messages::error::error_chain;
use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::{Direction, Response};
use scsi_pr::{
    AdditionalSense, Cdb, FullStatusDescriptor, InServiceAction, Keys, OutServiceAction,
    ParameterDataError, ParameterList, ReservationData, Sense, SenseKey, Status,
};
use thiserror::Error;

use crate::block_device::Part;
use crate::exit::Exit;
use crate::own_registration::OwnRegistration;
use crate::running_helpers::RunningHelper;

/// An error that prhctl can report: its text and sources, advice, and an exit status.
pub(crate) trait AdvisedError: StdError {
    /// Returns lines that say what is the case and what to do next; may be empty.
    fn advice(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the exit status.
    fn exit(&self) -> Exit {
        Exit::FAILURE
    }

    /// Returns the device's response, if the device rejected a command.
    fn rejection(&self) -> Option<&Rejection> {
        None
    }
}

/// An error, and the device that it is about.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Box<dyn AdvisedError>,
    /// The device, if the command is about one.
    pub(crate) device: Option<PathBuf>,
    /// The maps or disks that the device is a part of.
    pub(crate) part: Option<Part>,
    /// The unit attentions that were received before the error.
    pub(crate) unit_attentions: Vec<Sense>,
}

impl<E: AdvisedError + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure {
            error: Box::new(error),
            device: None,
            part: None,
            unit_attentions: Vec::new(),
        }
    }
}

/// The text of an error.
#[derive(Debug)]
pub(crate) struct ErrorText {
    pub(crate) message: String,
    pub(crate) advice: Vec<String>,
}

impl ErrorText {
    pub(crate) fn new(error: &dyn AdvisedError) -> Self {
        ErrorText {
            message: error_chain(error),
            advice: error.advice(),
        }
    }
}

/// An error of a command to a device.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The device cannot be opened.
    #[error("{}: cannot open for {}", path.display(), purpose(*access))]
    Open {
        path: PathBuf,
        access: Direction,
        source: io::Error,
    },
    /// There is no connection to the helper.
    #[error("{}", socket.display())]
    Connect {
        socket: PathBuf,
        /// True if this is the default socket because a search has found no helper.
        is_none_found: bool,
        source: ClientError,
    },
    /// The listener on a socket that a search has found is not to receive a device.
    #[error(transparent)]
    Listener(ForeignListener),
    /// A search has found several helpers.
    #[error("several helpers run on this host, and none uses the default socket")]
    SeveralHelpers(Vec<RunningHelper>),
    /// The helper sent no complete response, or violated the protocol.
    #[error("{}: {}", device.display(), service_action(*command))]
    Exchange {
        command: Cdb,
        device: PathBuf,
        source: ClientError,
    },
    /// The command ended with a status other than GOOD.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// The command ended with GOOD, but its parameter data are malformed.
    #[error("{}: malformed response to {action}", device.display())]
    Malformed {
        device: PathBuf,
        action: InServiceAction,
        source: ParameterDataError,
    },
    /// The TransportIDs do not fit into a parameter list that the protocol carries.
    #[error("the initiator ports need more than the 8192 bytes that a helper accepts")]
    TooManyInitiators,
    /// The subcommand sends nothing, for this reason.
    #[error("{0}")]
    Refused(Box<dyn AdvisedError>),
}

/// A process that listens on a socket, and runs as neither root nor the user of this process.
#[derive(Debug, Error)]
#[error(
    "{}: listener (process {pid}, user {user}) is neither root nor user {own_user}",
    socket.display()
)]
pub(crate) struct ForeignListener {
    pub(crate) socket: PathBuf,
    pub(crate) pid: i32,
    pub(crate) user: u32,
    pub(crate) own_user: u32,
}

const fn purpose(access: Direction) -> &'static str {
    match access {
        Direction::In => "reading",
        Direction::Out => "reading and writing",
    }
}

/// Returns the standard's name of a command's service action.
const fn service_action(command: Cdb) -> &'static str {
    match command {
        Cdb::In(command) => command.service_action.name(),
        Cdb::Out(command) => command.service_action.name(),
    }
}

/// A command that ended with a status other than GOOD.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) command: Cdb,
    pub(crate) device: PathBuf,
    pub(crate) status: Status,
    /// The sense data, if the status is CHECK CONDITION and they can be decoded.
    pub(crate) sense: Option<Sense>,
    /// The parameter list of a PERSISTENT RESERVE OUT.
    pub(crate) parameter_list: Option<ParameterList>,
    /// The state of the device after the rejection.
    pub(crate) conflict: ConflictInfo,
}

/// Registrations and reservation after a rejected change, if they decide its cause.
#[derive(Clone, Debug)]
pub(crate) enum ConflictInfo {
    /// The query failed, or was not sent.
    Unknown,
    /// The query ended with RESERVATION CONFLICT as well.
    Denied,
    /// The registered keys and the reservation.
    Known {
        keys: Keys,
        /// The number of bytes that are missing at the end of the list of keys.
        missing_bytes: usize,
        reservation: ReservationData,
        /// The registration of this host's port.
        own: Box<OwnRegistration>,
        /// All registrations; empty if the device does not return them.
        registrations: Vec<FullStatusDescriptor>,
    },
}

impl Rejection {
    /// Creates the rejection for a response with a status other than GOOD.
    pub(crate) fn new(command: Cdb, device: &Path, response: &Response) -> Self {
        let sense = (response.status == Status::CHECK_CONDITION)
            .then(|| Sense::decode(&response.sense).ok())
            .flatten();
        Rejection {
            command,
            device: device.to_owned(),
            status: response.status,
            sense,
            parameter_list: None,
            conflict: ConflictInfo::Unknown,
        }
    }

    /// Returns whether the command ended with RESERVATION CONFLICT, or with NOT READY, which LIO,
    /// the target of Linux, reports in its place to a port that is not registered.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status == Status::RESERVATION_CONFLICT || self.is_unregistered_at_lio()
    }

    /// Returns whether LIO has rejected a change because the sender is not registered. Any device
    /// uses the same sense data if it cannot be reached; then the queries that follow fail as well.
    pub(crate) fn is_unregistered_at_lio(&self) -> bool {
        matches!(self.command, Cdb::Out(_)) && self.is_communication_failure(SenseKey::NotReady)
    }

    /// Returns whether the helper has refused to register the paths of a map, without or after an
    /// attempt. QEMU's helper uses the same sense data for other errors.
    pub(crate) fn is_refused_registration(&self) -> bool {
        use OutServiceAction::{Register, RegisterAndIgnoreExistingKey};
        let is_register = matches!(
            self.command,
            Cdb::Out(command)
                if matches!(command.service_action, Register | RegisterAndIgnoreExistingKey)
        );
        is_register && self.is_communication_failure(SenseKey::AbortedCommand)
    }

    /// Returns whether the reservation decides why the device has rejected a change.
    pub(crate) fn is_about_reservation(&self) -> bool {
        let Cdb::Out(command) = self.command else {
            return false;
        };
        let code = self.sense.map(|sense| sense.code);
        match command.service_action {
            OutServiceAction::RegisterAndMove => {
                code == Some(AdditionalSense::INVALID_FIELD_IN_CDB)
            }
            _ => code == Some(AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION),
        }
    }

    fn is_communication_failure(&self, key: SenseKey) -> bool {
        self.sense.is_some_and(|sense| {
            sense.key == key && sense.code == AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE
        })
    }

    /// Returns the unit attention that the device reported instead of executing the command.
    pub(crate) fn unit_attention(&self) -> Option<Sense> {
        self.sense
            .filter(|sense| sense.key == SenseKey::UnitAttention && !sense.deferred)
    }
}

impl StdError for Rejection {}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = service_action(self.command);
        write!(f, "{}: {action} ended with ", self.device.display())?;
        match (&self.sense, self.status) {
            (Some(sense), _) => sense.fmt(f),
            (None, Status::CHECK_CONDITION) => {
                f.write_str("CHECK CONDITION without valid sense data")
            }
            (None, status) => status.fmt(f),
        }
    }
}

#[cfg(test)]
impl Rejection {
    /// Creates a rejection for tests. `sense` is the sense key, ASC and ASCQ.
    pub(crate) fn for_test(command: Cdb, status: u8, sense: Option<(u8, u8, u8)>) -> Self {
        let mut response = Response {
            status: Status(status),
            sense: [0; 96],
            data: Vec::new(),
        };
        if let Some((key, asc, ascq)) = sense {
            let code = AdditionalSense { asc, ascq };
            let sense = Sense::new(SenseKey::from_low_bits(key), code).to_fixed();
            response.sense[..18].copy_from_slice(&sense);
        }
        Rejection::new(command, Path::new("/dev/null"), &response)
    }
}
