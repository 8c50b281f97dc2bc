//! From a request to its outcome: which backend executes it, and what is answered without one.

pub mod soft_lun;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use ::soft_lun::store::StoreError;
use linux_util::sg_io::Data;
use pr_helper_protocol::{Direction, Request, RequestFd};
use scsi_pr::{AdditionalSense, SenseKey, Status};

use crate::command::command_log;
use crate::command::device::{self, DeviceId, DeviceKind};
use crate::command::executor::{CommandExecutor, CommandResult};
use crate::command::peer::{Peer, ProcessKey};
use crate::command::request_device::{DeviceInspector, FdAccess, RequestDevice};
use crate::command::sg;
use crate::logging::KeyedRateLimit;

use self::soft_lun::SoftLuns;
use crate::multipath::{self, Multipath};

/// Everything that can execute a command.
#[derive(Debug)]
pub struct Backends {
    io_timeout: Duration,
    soft_luns: Option<SoftLuns>,
    multipath: Option<Multipath>,
    targets: DeviceInspector,
    // What a guest could have said for each of its commands.
    lost: KeyedRateLimit<ProcessKey>,
    path_only: KeyedRateLimit<ProcessKey>,
    unknown: KeyedRateLimit<ProcessKey>,
    part: KeyedRateLimit<ProcessKey>,
    on_multipath: KeyedRateLimit<ProcessKey>,
}

impl Backends {
    /// Backends that give a device `io_timeout` for a command, and know these soft LUNs. Without
    /// `multipath`, commands on maps are refused.
    #[must_use]
    pub fn new(
        io_timeout: Duration,
        soft_luns: Option<SoftLuns>,
        multipath: Option<Multipath>,
    ) -> Self {
        let targets = DeviceInspector::new(soft_luns.as_ref().map(SoftLuns::as_fd));
        Self {
            io_timeout,
            soft_luns,
            multipath,
            targets,
            lost: KeyedRateLimit::new(),
            path_only: KeyedRateLimit::new(),
            unknown: KeyedRateLimit::new(),
            part: KeyedRateLimit::new(),
            on_multipath: KeyedRateLimit::new(),
        }
    }
}

impl CommandExecutor for Backends {
    fn inspect(&self, request: &Request) -> RequestDevice {
        self.targets.inspect(request)
    }

    fn execute(
        &self,
        client: &Peer,
        request: &Request,
        target: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult {
        let descriptor = match &request.fd {
            RequestFd::Open(descriptor) => descriptor.as_fd(),
            RequestFd::Lost => return self.lost(client, request),
        };
        let direction = request.command.direction();
        match target.access {
            FdAccess::PathOnly => return self.path_only(client, request, target.id),
            FdAccess::ReadOnly if direction == Direction::Out => {
                return read_only(client, request, target.id);
            }
            FdAccess::Lost | FdAccess::ReadOnly | FdAccess::Writable => {}
        }
        let soft_lun = self
            .soft_luns
            .as_ref()
            .and_then(|luns| luns.execute(client, descriptor, request, data));
        if let Some(outcome) = soft_lun {
            return outcome;
        }
        let kind = device::kind(descriptor, target.id);
        self.execute_on(kind, client, request, descriptor, target.id, data)
    }

    fn fds_per_command(&self) -> u64 {
        // A command goes to one of them.
        let soft_luns = self.soft_luns.as_ref().map(|_| soft_lun::DESCRIPTORS);
        let multipath = self.multipath.as_ref().map(|_| multipath::FDS_PER_COMMAND);
        soft_luns.max(multipath).unwrap_or(0).saturating_add(1)
    }
}

impl Backends {
    /// Executes a request on a device of this kind.
    fn execute_on(
        &self,
        kind: io::Result<DeviceKind>,
        client: &Peer,
        request: &Request,
        descriptor: BorrowedFd<'_>,
        number: DeviceId,
        data: &mut [u8],
    ) -> CommandResult {
        match kind {
            Ok(DeviceKind::Passthrough) => {
                let data = match request.command.direction() {
                    Direction::In => Data::FromDevice(data),
                    Direction::Out => Data::ToDevice(&request.parameters),
                };
                sg::execute_sg_io(descriptor, request.command.cdb(), data, self.io_timeout)
                    .into_result()
            }
            Ok(DeviceKind::Partition) => self.part(client, request, number),
            Ok(DeviceKind::Multipath | DeviceKind::Mapped) => match &self.multipath {
                Some(maps) => maps
                    .execute(client, descriptor, number, request, data)
                    .unwrap_or_else(|kind| {
                        self.execute_on(Ok(kind), client, request, descriptor, number, data)
                    }),
                None => not_supported(),
            },
            Ok(DeviceKind::OnMultipath(map)) => {
                command_log::rejected(client, request, "lies on a multipath map");
                self.on_multipath(client, number, map)
            }
            Err(error) => {
                command_log::rejected(client, request, "cannot tell what it is");
                self.unknown(client, number, &error)
            }
        }
    }

    /// Looks whether what the operator has named can be used, with the privileges that are left.
    ///
    /// # Errors
    ///
    /// That the folder of soft LUNs cannot be read.
    pub fn check(&self) -> Result<(), StoreError> {
        self.soft_luns.as_ref().map_or(Ok(()), SoftLuns::check)
    }

    /// Answers a request whose descriptor the kernel did not hand over.
    fn lost(&self, client: &Peer, request: &Request) -> CommandResult {
        if let Some(suppressed) = self.lost.should_log(client.process_key()) {
            log::warn!(
                "{client}: the kernel did not hand over the device, command answered with BUSY: \
                 too many files are open, or a security policy (SELinux, AppArmor) forbids \
                 it{suppressed}"
            );
        }
        command_log::rejected(client, request, "the kernel did not hand over the device");
        CommandResult::from_status(Status::BUSY)
    }

    /// Answers a request whose descriptor permits nothing, as the kernel would if it were asked.
    fn path_only(&self, client: &Peer, request: &Request, number: DeviceId) -> CommandResult {
        if let Some(suppressed) = self.path_only.should_log(client.process_key()) {
            log::warn!(
                "{client}: command to device {number} rejected: the descriptor was opened with \
                 O_PATH, which takes no permission on the device; open it for reading and \
                 writing{suppressed}"
            );
        }
        command_log::rejected(client, request, "opened with O_PATH");
        match request.command.direction() {
            Direction::In => terminated(),
            Direction::Out => not_supported(),
        }
    }

    /// Refuses a command that would act on the whole disk although the client has a part of it
    /// alone.
    fn part(&self, client: &Peer, request: &Request, number: DeviceId) -> CommandResult {
        if let Some(suppressed) = self.part.should_log(client.process_key()) {
            log::warn!(
                "{client}: command to device {number} rejected: it is a part of a disk, and the \
                 command would act on the whole disk; give the guest the whole \
                 disk{suppressed}"
            );
        }
        command_log::rejected(client, request, "a part of a disk");
        not_supported()
    }

    /// A command to a partition or a volume would reach the whole logical unit, by one path.
    fn on_multipath(&self, client: &Peer, number: DeviceId, map: DeviceId) -> CommandResult {
        if let Some(suppressed) = self.on_multipath.should_log(client.process_key()) {
            log::warn!(
                "{client}: device {number} is no disk, it lies on multipath map {map}: command \
                 refused; a part of a logical unit has no reservations of its own{suppressed}"
            );
        }
        not_supported()
    }

    /// It may be a multipath map.
    fn unknown(&self, client: &Peer, number: DeviceId, error: &io::Error) -> CommandResult {
        if let Some(suppressed) = self.unknown.should_log(client.process_key()) {
            log::warn!(
                "{client}: cannot tell what device {number} is, command refused: \
                 {error}{suppressed}"
            );
        }
        terminated()
    }
}

/// Refuses to change reservations through a descriptor that cannot be written to.
fn read_only(client: &Peer, request: &Request, number: DeviceId) -> CommandResult {
    log::info!("{client}: device {number} is open read-only: PERSISTENT RESERVE OUT refused");
    command_log::rejected(client, request, "open read-only");
    not_supported()
}

/// Answers that the command was not sent.
fn terminated() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::IO_PROCESS_TERMINATED,
    )
}

/// The device does not know persistent reservations.
fn not_supported() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::IllegalRequest,
        AdditionalSense::INVALID_COMMAND_OPERATION_CODE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::Command;
    use std::fs::{File, OpenOptions};
    use std::os::unix::net::UnixStream;

    fn execute(cdb: &[u8], device: RequestFd, parameters: Vec<u8>) -> CommandResult {
        let mut bytes = [0; 16];
        bytes[..cdb.len()].copy_from_slice(cdb);
        let request = Request {
            command: Command::new(bytes).unwrap(),
            fd: device,
            parameters,
        };
        let backends = Backends::new(Duration::from_secs(1), None, None);
        let socket = UnixStream::pair().unwrap().0;
        let target = backends.inspect(&request);
        backends.execute(
            &Peer::from_socket(&socket, 1),
            &request,
            &target,
            &mut [0; 64],
        )
    }

    #[test]
    fn out_on_a_read_only_descriptor_is_an_invalid_opcode() {
        let device = RequestFd::Open(File::open("/dev/null").unwrap().into());
        let outcome = execute(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], device, vec![0; 24]);
        assert_eq!(outcome.status, Status::CHECK_CONDITION);
        assert_eq!(
            outcome.sense[..14],
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0]
        );
    }

    #[test]
    fn a_file_that_is_no_scsi_device_terminates_the_command() {
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let outcome = execute(
            &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0],
            RequestFd::Open(null.into()),
            vec![0; 24],
        );
        assert_eq!(outcome.status, Status::CHECK_CONDITION);
        assert_eq!(
            outcome.sense[..14],
            [0x70, 0, 0xb, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 6]
        );
    }

    #[test]
    fn a_lost_descriptor_is_busy() {
        let outcome = execute(
            &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
            RequestFd::Lost,
            Vec::new(),
        );
        assert_eq!(outcome, CommandResult::from_status(Status::BUSY));
    }
}
