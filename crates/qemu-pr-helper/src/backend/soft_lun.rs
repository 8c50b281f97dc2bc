//! Logical units in software: for trying, teaching and testing without hardware.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf, absolute};
use std::time::Instant;

use pr_helper_protocol::{Direction, Request};
use scsi_pr::{AdditionalSense, ReservationKey, SenseKey, Status};
use soft_lun::store::{LunDirectory, OpenPort, StoreError};
use soft_lun::{LogicalUnit, Response};

use crate::command::command_log;
use crate::command::executor::CommandResult;
use crate::command::peer::{Peer, ProcessKey};
use crate::error_chain;
use crate::logging::KeyedRateLimit;
use crate::trace::{event_enabled, trace};

/// How many descriptors a command takes at most beside the port's: a soft LUN's folder, its lock or the
/// folder of its ports, and a file or a list of files.
pub const DESCRIPTORS: u64 = 3;

/// The soft LUNs of one folder.
#[derive(Debug)]
pub struct SoftLuns {
    folder: LunDirectory,
    unreadable: KeyedRateLimit<ProcessKey>,
    /// By the client and the soft LUN's folder: a problem of one LUN must not hide that of another.
    unusable: KeyedRateLimit<(ProcessKey, PathBuf)>,
}

impl SoftLuns {
    /// Those in `folder`.
    ///
    /// # Errors
    ///
    /// That there is no such folder.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        // In the log a relative name would be one from where the helper was started.
        let path = absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Ok(Self {
            folder: LunDirectory::open(&path)?,
            unreadable: KeyedRateLimit::new(),
            unusable: KeyedRateLimit::new(),
        })
    }

    /// Returns the open directory of the soft LUNs.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The folder, open once more.
    ///
    /// # Errors
    ///
    /// There are no descriptors.
    pub fn folder(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    /// Looks whether the folder can be read.
    ///
    /// # Errors
    ///
    /// That it cannot.
    pub fn check(&self) -> Result<(), StoreError> {
        self.folder.names().map(|_| ())
    }

    /// Executes a request if `descriptor` is a port of a soft LUN; `None` if it is something else.
    #[must_use]
    pub fn execute(
        &self,
        client: &Peer,
        descriptor: BorrowedFd<'_>,
        request: &Request,
        data: &mut [u8],
    ) -> Option<CommandResult> {
        let open = match self.folder.find_port(descriptor) {
            Ok(port) => port?,
            Err(error) if error.is_transient() => {
                return Some(CommandResult::from_status(Status::BUSY));
            }
            Err(error) => {
                self.unreadable(client, &error);
                return None;
            }
        };
        let lun = open.lun.path().display();
        trace!(pr_helper_soft_lun_begin(
            client.connection_id(),
            &lun.to_string(),
            open.port.as_str()
        ));
        let start = event_enabled!(pr_helper_soft_lun_end).then(Instant::now);
        let cdb = request.command.cdb();
        let done = open.lun.execute(&open.port, cdb, &request.parameters);
        let outcome = match &done {
            Ok(done) => outcome(&done.response, request.command.direction(), data),
            Err(error) => self.unusable(client, open.lun.path(), error),
        };
        if let Some(unit) = done.ok().and_then(|done| done.changed) {
            tell_change(client, &open, &unit);
        }
        trace!(pr_helper_soft_lun_end(
            client.connection_id(),
            &lun.to_string(),
            open.port.as_str(),
            outcome.status.0,
            command_log::microseconds(start.map(|start| start.elapsed()).unwrap_or_default()),
        ));
        Some(outcome)
    }

    /// It may be a port of one that cannot be read; but it may as well be any file.
    fn unreadable(&self, client: &Peer, error: &StoreError) {
        if let Some(suppressed) = self.unreadable.should_log(client.process_key()) {
            log::warn!(
                "{client}: cannot tell whether a file is a port of a soft LUN, taken for none: {}{suppressed}",
                error_chain(error)
            );
        }
    }

    /// What is wrong with its files is to a guest what a broken array is.
    fn unusable(&self, client: &Peer, lun: &Path, error: &StoreError) -> CommandResult {
        let outcome = match error.is_transient() {
            true => CommandResult::from_status(Status::BUSY),
            false => CommandResult::check_condition(
                SenseKey::HardwareError,
                AdditionalSense::INTERNAL_TARGET_FAILURE,
            ),
        };
        let key = (client.process_key(), lun.to_owned());
        if let Some(suppressed) = self.unusable.should_log(key) {
            log::warn!(
                "{client}: soft LUN cannot be used, command answered with {}: {}{suppressed}",
                outcome.status,
                error_chain(error)
            );
        }
        outcome
    }
}

/// What a command has left behind.
fn tell_change(client: &Peer, port: &OpenPort, unit: &LogicalUnit) {
    let reservation = unit.reservation();
    let holder = reservation.and_then(|reservation| reservation.holder());
    trace!(pr_helper_soft_lun_changed(
        client.connection_id(),
        &port.lun.path().display().to_string(),
        port.port.as_str(),
        unit.generation().get(),
        u32::try_from(unit.registrations().len()).unwrap_or(u32::MAX),
        reservation.map_or(0, |reservation| reservation.kind().code()),
        holder
            .and_then(|holder| unit.key_of(holder))
            .map_or(0, ReservationKey::get),
    ));
}

/// Puts the data of an answer into `data`, which has room for what the command allows.
fn outcome(answer: &Response, direction: Direction, data: &mut [u8]) -> CommandResult {
    let mut outcome = match &answer.sense {
        Some(sense) => CommandResult::with_sense(answer.status, sense),
        None => CommandResult::from_status(answer.status),
    };
    if direction == Direction::In {
        let room = data.iter_mut().zip(&answer.data);
        outcome.data_len = room.map(|(to, from)| *to = *from).count();
    }
    outcome
}
