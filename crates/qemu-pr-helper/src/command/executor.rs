// SPDX-License-Identifier: MIT OR Apache-2.0

//! The executor of commands, and their results.

use pr_helper_protocol::Request;
use pr_helper_protocol::wire::SENSE_SIZE;
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

use crate::command::peer::Peer;
use crate::command::request_device::{DeviceInspector, RequestDevice};

/// Executor of requests. A request always has a result: whatever a device or the kernel does
/// becomes a SCSI status, with sense if the status is CHECK CONDITION.
pub trait CommandExecutor: Send + Sync + 'static {
    /// Examines the device of `request`. This must not wait for the device, because the request
    /// does not count against the device's limit yet.
    fn inspect(&self, request: &Request) -> RequestDevice {
        DeviceInspector::default().inspect(request)
    }

    /// Executes `request` of `peer` on `device` and waits for the command's end, which can take
    /// long. Data from the device goes to the front of `data`, which is as long as the command
    /// allows.
    fn execute(
        &self,
        peer: &Peer,
        request: &Request,
        device: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult;

    /// Records that a peer has connected. This must not block.
    fn connected(&self, _peer: &Peer) {}

    /// Records that a peer has disconnected, or that its connection was closed. With `may_block`,
    /// this can take as long as a command.
    fn disconnected(&self, _peer: &Peer, _may_block: bool) {}

    /// Returns the maximum number of descriptors of a command: its device's, and those that are
    /// opened for it.
    fn fds_per_command(&self) -> u64 {
        1
    }
}

/// Result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandResult {
    /// The status.
    pub status: Status,
    /// Sense data, followed by zeros.
    pub sense: [u8; SENSE_SIZE],
    /// Number of bytes in the data area that are from the device; 0 unless the status is GOOD.
    pub data_len: usize,
}

impl CommandResult {
    /// Creates a result without sense and data.
    #[must_use]
    pub const fn from_status(status: Status) -> Self {
        Self {
            status,
            sense: [0; SENSE_SIZE],
            data_len: 0,
        }
    }

    /// Creates a CHECK CONDITION with sense of the helper: fixed format, current.
    #[must_use]
    pub fn check_condition(key: SenseKey, code: AdditionalSense) -> Self {
        Self::with_sense(Status::CHECK_CONDITION, &Sense::new(key, code))
    }

    /// Creates a result with sense in fixed format.
    #[must_use]
    pub fn with_sense(status: Status, sense: &Sense) -> Self {
        let mut result = Self::from_status(status);
        for (byte, value) in result.sense.iter_mut().zip(sense.to_fixed()) {
            *byte = value;
        }
        result
    }

    /// Decodes the sense; `None` unless the status is CHECK CONDITION and the sense is valid.
    #[must_use]
    pub fn decode_sense(&self) -> Option<Sense> {
        match self.status {
            Status::CHECK_CONDITION => Sense::decode(&self.sense).ok(),
            _ => None,
        }
    }
}
