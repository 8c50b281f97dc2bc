//! How a command ended.

use pr_helper_protocol::Request;
use pr_helper_protocol::wire::SENSE_SIZE;
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

use crate::command::peer::Peer;
use crate::command::request_device::{DeviceInspector, RequestDevice};

/// What executes requests. A request always has an outcome: whatever a device or the kernel does
/// becomes a SCSI status, with sense where the status is CHECK CONDITION.
pub trait CommandExecutor: Send + Sync + 'static {
    /// Examines the device of `request`, without waiting for it: the request does not count at a
    /// device yet.
    fn inspect(&self, request: &Request) -> RequestDevice {
        DeviceInspector::default().inspect(request)
    }

    /// Executes `request` on `target` for `client` and waits for the command's end, which can take
    /// long. Data of the device goes to the front of `data`, which is as long as the command
    /// allows.
    fn execute(
        &self,
        client: &Peer,
        request: &Request,
        target: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult;

    /// How many descriptors a command takes at most: its device's, and those that are opened for it.
    fn fds_per_command(&self) -> u64 {
        1
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandResult {
    /// The status.
    pub status: Status,
    /// Sense data, zeros behind its end.
    pub sense: [u8; SENSE_SIZE],
    /// How many bytes of the data area are the device's answer. 0 unless the status is GOOD.
    pub data_len: usize,
}

impl CommandResult {
    /// An outcome that is only a status.
    #[must_use]
    pub const fn from_status(status: Status) -> Self {
        Self {
            status,
            sense: [0; SENSE_SIZE],
            data_len: 0,
        }
    }

    /// CHECK CONDITION with sense that the helper makes: fixed format, current.
    #[must_use]
    pub fn check_condition(key: SenseKey, code: AdditionalSense) -> Self {
        Self::with_sense(Status::CHECK_CONDITION, &Sense::new(key, code))
    }

    /// A status with sense, which is put into fixed format.
    #[must_use]
    pub fn with_sense(status: Status, sense: &Sense) -> Self {
        let mut outcome = Self::from_status(status);
        for (byte, value) in outcome.sense.iter_mut().zip(sense.to_fixed()) {
            *byte = value;
        }
        outcome
    }
}
