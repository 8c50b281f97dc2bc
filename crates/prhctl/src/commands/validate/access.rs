// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads and writes of a disk, which prhctl sends itself: helpers accept only PERSISTENT RESERVE.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use linux_util::sg_io::{Data, sg_io};
use scsi_pr::{Sense, Status};
use thiserror::Error;

use super::command::Answer;
use crate::error::AdvisedError;
use crate::helper::HelperConnection;

/// Time limit of a command. A disk answers a conflict at once.
const TIMEOUT: Duration = Duration::from_secs(30);

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
/// The first eight bytes of a CDB of ten bytes: the block at address 0, and a length of one block
/// in the two bytes before the last.
const fn one_block(operation_code: u8) -> [u8; 10] {
    [operation_code, 0, 0, 0, 0, 0, 0, 0, 1, 0]
}

/// The kind of a command that the reservation allows or forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// READ of the first block.
    Read,
    /// WRITE of zeros to the first block.
    Write,
}

impl Access {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Access::Read => "READ",
            Access::Write => "WRITE",
        }
    }
}

/// The kernel did not send a command.
#[derive(Debug, Error)]
#[error("{}: cannot send {name} to the disk", device.display())]
pub(super) struct AccessError {
    device: PathBuf,
    name: &'static str,
    source: io::Error,
}

impl AdvisedError for AccessError {}

/// Reads or writes the first block of the disk, which contains zeros.
pub(super) fn execute(
    connection: &HelperConnection<'_>,
    access: Access,
) -> Result<Answer, AccessError> {
    let error = |source| AccessError {
        device: connection.path().to_owned(),
        name: access.name(),
        source,
    };
    let block_size = connection
        .block_device()
        .and_then(|device| device.logical_block_size())
        .ok_or_else(|| error(io::ErrorKind::Unsupported.into()))?;
    let mut block = vec![0; block_size];
    let mut sense = [0; 96];
    let (cdb, data) = match access {
        Access::Read => (one_block(READ_10), Data::FromDevice(&mut block)),
        Access::Write => (one_block(WRITE_10), Data::ToDevice(&block)),
    };
    let device = connection.device().as_fd();
    let completion = sg_io(device, &cdb, data, &mut sense, TIMEOUT).map_err(error)?;
    let status = Status(completion.status);
    // The kernel can report a conflict as an error of the host adapter, too.
    if status == Status::RESERVATION_CONFLICT || completion.host_status == 0 {
        let sense = (status == Status::CHECK_CONDITION)
            .then(|| Sense::decode(&sense).ok())
            .flatten();
        return Ok(Answer::new(status, sense));
    }
    let text = format!(
        "the host adapter ended the command with status {:#x}",
        completion.host_status
    );
    Err(error(io::Error::other(text)))
}
