// SPDX-License-Identifier: MIT OR Apache-2.0

//! A record of the event journal before it is text.

use std::time::SystemTime;

use helper_state::{Event, Record};
use pr_helper_protocol::Command;
use scsi_pr::ReservationKey;

use super::change::Change;
use super::registrations::{DiskKey, Known};
use super::{Outcome, process};
use crate::command::command_log;
use crate::command::device::DeviceId;
use crate::command::peer::Peer;
use crate::command::timestamp::unix_microseconds;
use crate::names::disk_name::DiskName;

/// Result of a command of interest. The thread of the command does not format it, because that
/// takes several times as many instructions as the rest of the command.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// [`Record::sequence`], which the journal sets.
    pub(super) sequence: u64,
    pub(super) time: SystemTime,
    pub(super) event: Event,
    /// The client. Its name can become known later.
    pub(super) client: Peer,
    /// The device that the client opened, which can get its names later.
    pub(super) device: DeviceId,
    pub(super) disk: DiskKey,
    pub(super) command: Command,
    pub(super) change: Change,
    pub(super) outcome: Outcome,
    pub(super) duration_us: u64,
    pub(super) previous_key: Option<ReservationKey>,
    pub(super) before: Known,
    pub(super) after: Known,
    /// [`Record::other`].
    pub(super) other: Option<Peer>,
}

impl Entry {
    /// Returns the record of the helper with this process ID. `disk` are the names of the disk.
    pub(super) fn to_record(&self, helper: u32, disk: Option<&DiskName>) -> Record {
        let client = process(&self.client);
        let sense = self.outcome.sense;
        Record {
            sequence: self.sequence,
            helper,
            time_us: unix_microseconds(self.time),
            event: self.event,
            client_id: self.client.connection_id(),
            pid: self.client.pid,
            client: client.name,
            uuid: client.vm.and_then(|vm| vm.uuid),
            device: self.disk.device(),
            wwn: disk.and_then(|disk| disk.wwn.clone()),
            node: disk.and_then(|disk| disk.nodes.first().cloned()),
            action: command_log::service_action_name(&self.command).into_owned(),
            key: self.change.key_text(),
            service_action_key: self.change.service_action_key_text(),
            r#type: self.change.type_name(),
            status: self.outcome.status.to_string(),
            sense: sense.map(|sense| sense.to_string()),
            duration_us: self.duration_us,
            previous_key: self.previous_key.map(|key| key.to_string()),
            before: self.before.to_state(),
            after: self.after.to_state(),
            other: self.other.as_ref().map(|other| process(other).name),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::command::executor::CommandResult;
    use pr_helper_protocol::{Request, RequestFd};
    use pr_testkit::cdb::PrCommand;
    use scsi_pr::Status;
    use std::time::{Duration, UNIX_EPOCH};

    /// Creates the entry of a command that was executed.
    pub(crate) fn entry(command: &PrCommand) -> Entry {
        let request = Request {
            command: Command::new(command.cdb).unwrap(),
            fd: RequestFd::Lost,
            parameters: command.parameter_list.clone(),
        };
        let device = DeviceId::Block(8, 0);
        Entry {
            sequence: 0,
            time: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            event: Event::Change,
            client: Peer::of_process(2, 3),
            device,
            disk: DiskKey::Device(device),
            command: request.command,
            change: Change::new(&request),
            outcome: Outcome::new(&CommandResult::from_status(Status::GOOD)),
            duration_us: 400,
            previous_key: None,
            before: Known::default(),
            after: Known::default(),
            other: None,
        }
    }
}
