// SPDX-License-Identifier: MIT OR Apache-2.0

//! The backend of soft LUNs: logical units in software, for tests and demonstrations without
//! hardware.

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

/// Maximum number of descriptors of a command, beside the port's: the soft LUN's directory, its
/// lock or the directory of its ports, and a file or a list of files.
pub(crate) const DESCRIPTORS: u64 = 3;

/// The soft LUNs of one directory.
#[derive(Debug)]
pub struct SoftLuns {
    dir: LunDirectory,
    port_lookup_warning: KeyedRateLimit<ProcessKey>,
    /// Keyed by client process and soft LUN directory, so that a problem of one LUN does not hide
    /// that of another.
    store_warning: KeyedRateLimit<(ProcessKey, PathBuf)>,
}

impl SoftLuns {
    /// Opens the directory `dir` of soft LUNs.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory does not exist or cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        // The log has the absolute path, because the log does not contain the working directory.
        let path = absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Ok(Self {
            dir: LunDirectory::open(&path)?,
            port_lookup_warning: KeyedRateLimit::new(),
            store_warning: KeyedRateLimit::new(),
        })
    }

    /// Returns the descriptor of the directory.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Duplicates the descriptor of the directory.
    pub(crate) fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    /// Checks that the directory can be read.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.dir.names().map(|_| ())
    }

    /// Executes a request if `fd` is a port of a soft LUN; `None` if it is another file.
    pub(crate) fn execute(
        &self,
        peer: &Peer,
        fd: BorrowedFd<'_>,
        request: &Request,
        data: &mut [u8],
    ) -> Option<CommandResult> {
        let open = match self.dir.find_port(fd) {
            Ok(port) => port?,
            Err(error) if error.is_transient() => {
                return Some(CommandResult::from_status(Status::BUSY));
            }
            Err(error) => {
                self.warn_port_lookup(peer, &error);
                return None;
            }
        };
        let lun = open.lun.path().display();
        trace!(pr_helper_soft_lun_begin(
            peer.connection_id(),
            &lun.to_string(),
            open.port.as_str()
        ));
        let start = event_enabled!(pr_helper_soft_lun_end).then(Instant::now);
        let cdb = request.command.cdb();
        let executed = open.lun.execute(&open.port, cdb, &request.parameters);
        let result = match &executed {
            Ok(executed) => to_result(&executed.response, request.command.direction(), data),
            Err(error) => self.store_error_result(peer, open.lun.path(), error),
        };
        if let Some(unit) = executed.ok().and_then(|executed| executed.changed) {
            trace_state_change(peer, &open, &unit);
        }
        trace!(pr_helper_soft_lun_end(
            peer.connection_id(),
            &lun.to_string(),
            open.port.as_str(),
            result.status.0,
            command_log::microseconds(start.map(|start| start.elapsed()).unwrap_or_default()),
        ));
        Some(result)
    }

    /// Warns that a file is treated as an ordinary one, although it may be a port of a soft LUN
    /// that cannot be read.
    fn warn_port_lookup(&self, peer: &Peer, error: &StoreError) {
        if let Some(suppressed) = self.port_lookup_warning.should_log(peer.process_key()) {
            log::warn!(
                "{peer}: cannot determine whether the file is a port of a soft LUN, treating it \
                 as an ordinary file: {}{suppressed}",
                error_chain(error)
            );
        }
    }

    /// Returns the result of a command if the soft LUN's files cannot be used. To a guest it looks
    /// like a broken disk array.
    fn store_error_result(&self, peer: &Peer, lun: &Path, error: &StoreError) -> CommandResult {
        let result = match error.is_transient() {
            true => CommandResult::from_status(Status::BUSY),
            false => CommandResult::check_condition(
                SenseKey::HardwareError,
                AdditionalSense::INTERNAL_TARGET_FAILURE,
            ),
        };
        let key = (peer.process_key(), lun.to_owned());
        if let Some(suppressed) = self.store_warning.should_log(key) {
            log::warn!(
                "{peer}: command answered with {}: soft LUN cannot be used: {}{suppressed}",
                result.status,
                error_chain(error)
            );
        }
        result
    }
}

/// Traces the state that a command has left.
fn trace_state_change(peer: &Peer, port: &OpenPort, unit: &LogicalUnit) {
    let reservation = unit.reservation();
    let holder = reservation.and_then(|reservation| reservation.holder());
    trace!(pr_helper_soft_lun_changed(
        peer.connection_id(),
        &port.lun.path().display().to_string(),
        port.port.as_str(),
        unit.generation().get(),
        u32::try_from(unit.registrations().len()).unwrap_or(u32::MAX),
        reservation.map_or(0, |reservation| reservation.kind().code()),
        holder
            .and_then(|holder| unit.key(holder))
            .map_or(0, ReservationKey::get),
    ));
}

/// Converts a response. Copies its data to `data`, which is as long as the command allows.
fn to_result(response: &Response, direction: Direction, data: &mut [u8]) -> CommandResult {
    let mut result = match &response.sense {
        Some(sense) => CommandResult::with_sense(response.status, sense),
        None => CommandResult::from_status(response.status),
    };
    if direction == Direction::In {
        let bytes = data.iter_mut().zip(&response.data);
        result.data_len = bytes.map(|(to, from)| *to = *from).count();
    }
    result
}
