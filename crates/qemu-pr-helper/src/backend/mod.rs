// SPDX-License-Identifier: MIT OR Apache-2.0

//! The backends: a command goes to the device itself, to a soft LUN or to a multipath map, unless
//! it is rejected without a backend.

pub mod soft_lun;

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ::soft_lun::store::StoreError;
use linux_util::sg_io::Data;
use pr_helper_protocol::{Direction, Request, RequestFd};
use scsi_pr::{AdditionalSense, ReservationType, SenseKey, Status};

use self::soft_lun::SoftLuns;
use crate::command::command_log;
use crate::command::device::{DeviceId, DeviceKind};
use crate::command::executor::{CommandExecutor, CommandResult};
use crate::command::known_maps::KnownMaps;
use crate::command::peer::{Peer, ProcessKey};
use crate::command::request_device::{DeviceInspector, FdAccess, RequestDevice};
use crate::command::sg;
use crate::logging::KeyedRateLimit;
use crate::monitor::document::MapStates;
use crate::multipath::{self, Multipath};
use crate::names::Names;

/// All backends.
#[derive(Debug)]
pub struct Backends {
    io_timeout: Duration,
    soft_luns: Option<SoftLuns>,
    multipath: Option<Arc<Multipath>>,
    names: Option<Arc<Names>>,
    inspector: DeviceInspector,
    known_maps: KnownMaps,
    warnings: Warnings,
}

/// Rate limits of warnings, because a guest can trigger these with each of its commands.
#[derive(Debug, Default)]
struct Warnings {
    lost: KeyedRateLimit<ProcessKey>,
    path_only: KeyedRateLimit<ProcessKey>,
    unidentified: KeyedRateLimit<ProcessKey>,
    partition: KeyedRateLimit<ProcessKey>,
    native_multipath: KeyedRateLimit<ProcessKey>,
    on_multipath: KeyedRateLimit<ProcessKey>,
    exclusive_type: KeyedRateLimit<ProcessKey>,
}

impl Backends {
    /// Creates backends for these soft LUNs, for multipath maps and for SCSI devices, which have
    /// `io_timeout` for a command. Without `multipath`, commands on maps are rejected.
    #[must_use]
    pub fn new(
        io_timeout: Duration,
        soft_luns: Option<SoftLuns>,
        multipath: Option<Multipath>,
    ) -> Self {
        Self {
            io_timeout,
            inspector: DeviceInspector::new(soft_luns.as_ref().map(SoftLuns::as_fd)),
            soft_luns,
            multipath: multipath.map(Arc::new),
            names: None,
            known_maps: KnownMaps::default(),
            warnings: Warnings::default(),
        }
    }

    /// Resolves the names of client processes with `names`.
    pub(crate) fn with_names(self, names: Names) -> Self {
        Self {
            names: Some(Arc::new(names)),
            ..self
        }
    }

    /// Starts the thread that resolves names, and returns them.
    pub(crate) fn start_names(&self) -> Option<Arc<Names>> {
        let names = self.names.clone()?;
        names.start();
        Some(names)
    }

    /// Checks that the directory of soft LUNs can be read with the privileges that are left.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.soft_luns.as_ref().map_or(Ok(()), SoftLuns::check)
    }

    /// Returns the state of the multipath maps.
    pub(crate) fn map_states(&self) -> MapStates {
        self.multipath
            .as_ref()
            .map_or_else(MapStates::default, Multipath::states)
    }

    /// Executes a request on a device of this kind.
    fn execute_on(
        &self,
        kind: io::Result<DeviceKind>,
        peer: &Peer,
        request: &Request,
        fd: BorrowedFd<'_>,
        id: DeviceId,
        data: &mut [u8],
    ) -> CommandResult {
        match kind {
            // The destination of a migration has preempted the registration of a single path, and
            // nothing registers it again. QEMU's helper answers any file that is not a map so.
            Ok(DeviceKind::Passthrough) if request.command.is_cleanup() => {
                CommandResult::from_status(Status::GOOD)
            }
            Ok(DeviceKind::Passthrough) => {
                let data = match request.command.direction() {
                    Direction::In => Data::FromDevice(data),
                    Direction::Out => Data::ToDevice(&request.parameters),
                };
                sg::execute_sg_io(fd, request.command.cdb(), data, self.io_timeout).into_result()
            }
            // The command would act on the whole disk, although the client has opened only a part
            // of it.
            Ok(DeviceKind::Partition) => {
                let warning = format_args!(
                    "command to device {id} rejected: it is a partition or covers only a part of \
                     a disk, and the command would act on the whole disk; give the guest the \
                     whole disk"
                );
                let limit = &self.warnings.partition;
                reject(peer, request, "a part of a disk", limit, warning);
                not_supported()
            }
            Ok(kind @ (DeviceKind::Multipath | DeviceKind::Mapped)) => {
                self.execute_on_map(kind, peer, request, fd, id, data)
            }
            // The kernel would send the command to one path, and the registration would not cover
            // the others.
            Ok(DeviceKind::NativeMultipath) => {
                let warning = format_args!(
                    "command to device {id} rejected: the kernel itself has several paths to the \
                     disk, and the command would reach one of them; use device-mapper multipath \
                     (load scsi_mod with scsi_multipath=0)"
                );
                let limit = &self.warnings.native_multipath;
                reject(peer, request, "native multipath", limit, warning);
                not_supported()
            }
            // The command would reach the whole logical unit, by one path.
            Ok(DeviceKind::OnMultipath(map)) => {
                let warning = format_args!(
                    "command to device {id} rejected: it is not a disk but lies on multipath disk \
                     {map}, and a part of a logical unit has no reservations of its own"
                );
                let limit = &self.warnings.on_multipath;
                reject(peer, request, "lies on a multipath map", limit, warning);
                not_supported()
            }
            // The device may be a multipath map.
            Err(error) => {
                let warning = format_args!(
                    "command to device {id} rejected: cannot determine the kind of the \
                     device: {error}"
                );
                let limit = &self.warnings.unidentified;
                let reason = "cannot determine the kind of the device";
                reject(peer, request, reason, limit, warning);
                terminated()
            }
        }
    }

    /// Executes a request on a multipath map, or on another device-mapper device.
    fn execute_on_map(
        &self,
        kind: DeviceKind,
        peer: &Peer,
        request: &Request,
        fd: BorrowedFd<'_>,
        id: DeviceId,
        data: &mut [u8],
    ) -> CommandResult {
        let Some(maps) = &self.multipath else {
            return not_supported();
        };
        match maps.rejected_type(&request.command) {
            Some(exclusive) if kind == DeviceKind::Multipath => {
                self.reject_exclusive_type(peer, request, id, exclusive)
            }
            _ => maps
                .execute(peer, fd, (id, kind), request, data)
                .unwrap_or_else(|kind| self.execute_on(Ok(kind), peer, request, fd, id, data)),
        }
    }

    /// Rejects a command that would create a reservation of this type on a map, as a device without
    /// such reservations would.
    fn reject_exclusive_type(
        &self,
        peer: &Peer,
        request: &Request,
        map: DeviceId,
        exclusive: ReservationType,
    ) -> CommandResult {
        let warning = format_args!(
            "multipath map {map}: reservation of type {exclusive} rejected \
             (--reject-exclusive-types): only the path that holds it would have access; use a \
             type for registrants (5 to 8)"
        );
        let limit = &self.warnings.exclusive_type;
        reject(peer, request, "an exclusive type on a map", limit, warning);
        CommandResult::check_condition(
            SenseKey::IllegalRequest,
            AdditionalSense::INVALID_FIELD_IN_CDB,
        )
    }

    /// Rejects a request without a descriptor, because the kernel did not pass it.
    fn reject_lost(&self, peer: &Peer, request: &Request) -> CommandResult {
        let warning = format_args!(
            "command answered with BUSY: the kernel did not pass the device's descriptor; too \
             many files are open, or a security policy (SELinux, AppArmor) forbids it"
        );
        let limit = &self.warnings.lost;
        let reason = "the kernel did not pass the device's descriptor";
        reject(peer, request, reason, limit, warning);
        CommandResult::from_status(Status::BUSY)
    }

    /// Rejects a request with a descriptor that allows no I/O, as the kernel would.
    fn reject_path_only(&self, peer: &Peer, request: &Request, id: DeviceId) -> CommandResult {
        let warning = format_args!(
            "command to device {id} rejected: the descriptor was opened with O_PATH, which \
             requires no permission on the device; open it for reading and writing"
        );
        let limit = &self.warnings.path_only;
        reject(peer, request, "opened with O_PATH", limit, warning);
        match request.command.direction() {
            Direction::In => terminated(),
            Direction::Out => not_supported(),
        }
    }
}

impl CommandExecutor for Backends {
    fn inspect(&self, request: &Request) -> RequestDevice {
        self.inspector.inspect(request)
    }

    fn execute(
        &self,
        peer: &Peer,
        request: &Request,
        device: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult {
        let RequestFd::Open(fd) = &request.fd else {
            return self.reject_lost(peer, request);
        };
        let (fd, id) = (fd.as_fd(), device.id);
        match (device.access, request.command.direction()) {
            (FdAccess::PathOnly, _) => return self.reject_path_only(peer, request, id),
            (FdAccess::ReadOnly, Direction::Out) => {
                log::info!(
                    "{peer}: command to device {id} rejected: the descriptor is open read-only"
                );
                command_log::rejected(peer, request, "open read-only");
                return not_supported();
            }
            _ => {}
        }
        // A soft LUN knows no CLEANUP: for that, it is a file like any other.
        let soft_luns = self.soft_luns.as_ref();
        soft_luns
            .filter(|_| !request.command.is_cleanup())
            .and_then(|luns| luns.execute(peer, fd, request, data))
            .unwrap_or_else(|| {
                let kind = self.known_maps.kind(fd, id);
                self.execute_on(kind, peer, request, fd, id, data)
            })
    }

    fn connected(&self, peer: &Peer) {
        if let Some(names) = &self.names {
            names.connected(peer);
        }
    }

    fn disconnected(&self, peer: &Peer, may_block: bool) {
        if let Some(maps) = &self.multipath {
            maps.disconnected(peer, may_block);
        }
    }

    fn fds_per_command(&self) -> u64 {
        // A command goes to one backend.
        let soft_luns = self.soft_luns.as_ref().map(|_| soft_lun::DESCRIPTORS);
        let multipath = self.multipath.as_ref().map(|_| multipath::FDS_PER_COMMAND);
        soft_luns.max(multipath).unwrap_or(0).saturating_add(1)
    }
}

/// Traces that a request is rejected, and logs a warning if the rate limit allows it.
fn reject(
    peer: &Peer,
    request: &Request,
    reason: &str,
    limit: &KeyedRateLimit<ProcessKey>,
    warning: fmt::Arguments<'_>,
) {
    if let Some(suppressed) = limit.should_log(peer.process_key()) {
        log::warn!("{peer}: {warning}{suppressed}");
    }
    command_log::rejected(peer, request, reason);
}

/// Returns the result of a command that was not sent.
fn terminated() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::IO_PROCESS_TERMINATED,
    )
}

/// Returns the result of a device that does not support persistent reservations.
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
    use pr_helper_protocol::wire::{CLEANUP, pad_cdb};
    use rustix::fs::OFlags;
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::net::UnixStream;

    const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
    const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

    fn execute(cdb: [u8; 16], fd: RequestFd, parameters: Vec<u8>) -> CommandResult {
        let request = Request {
            command: Command::new(cdb).unwrap(),
            fd,
            parameters,
        };
        let backends = Backends::new(Duration::from_secs(1), None, None);
        let peer = Peer::from_socket(&UnixStream::pair().unwrap().0, 1);
        let device = backends.inspect(&request);
        backends.execute(&peer, &request, &device, &mut [0; 64])
    }

    #[test]
    fn out_on_read_only_fd_is_an_invalid_opcode() {
        let fd = RequestFd::Open(File::open("/dev/null").unwrap().into());
        let result = execute(REGISTER, fd, vec![0; 24]);
        assert_eq!(result.status, Status::CHECK_CONDITION);
        let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0];
        assert_eq!(result.sense[..14], sense);
    }

    #[test]
    fn file_that_is_not_a_scsi_device_aborts_the_command() {
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let result = execute(REGISTER, RequestFd::Open(null.into()), vec![0; 24]);
        assert_eq!(result.status, Status::CHECK_CONDITION);
        let sense = [0x70, 0, 0xb, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 6];
        assert_eq!(result.sense[..14], sense);
    }

    #[test]
    fn lost_fd_is_busy() {
        for cdb in [READ_KEYS, pad_cdb(&[CLEANUP])] {
            let result = execute(cdb, RequestFd::Lost, Vec::new());
            assert_eq!(result, CommandResult::from_status(Status::BUSY));
        }
    }

    #[test]
    fn cleanup_requires_write_access() {
        let path = i32::try_from(OFlags::PATH.bits()).unwrap();
        for (options, expected) in [
            (File::options().write(true), Status::GOOD),
            (File::options().read(true).write(true), Status::GOOD),
            (File::options().read(true), Status::CHECK_CONDITION),
            (
                File::options().read(true).custom_flags(path),
                Status::CHECK_CONDITION,
            ),
        ] {
            let null = options.open("/dev/null").unwrap();
            let result = execute(
                pad_cdb(&[CLEANUP]),
                RequestFd::Open(null.into()),
                Vec::new(),
            );
            assert_eq!(result.status, expected, "{options:?}");
            if expected == Status::CHECK_CONDITION {
                assert_eq!(result, not_supported());
            }
        }
    }
}
