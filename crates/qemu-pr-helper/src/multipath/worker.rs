// SPDX-License-Identifier: MIT OR Apache-2.0

//! Worker: a process that executes commands on multipath maps, one after another.
//!
//! The worker is privileged and treats the request as untrusted input: it executes only PERSISTENT
//! RESERVE commands and CLEANUP, only on a multipath map, and PERSISTENT RESERVE OUT and CLEANUP
//! only if the map is open for writing. It also makes multipathd forget the key of a map, if no
//! path is registered with it. It keeps nothing from one request to the next. It exits
//! after a command for which a path hangs, and if no request arrives for some time.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use linux_util::sg_io::Data;
use linux_util::signals;
use nix::unistd::alarm;
use pr_helper_protocol::Direction;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, set_name};
use scsi_pr::{AdditionalSense, ReservationKey, Status};

use super::channel::{self, ReceivedRequest};
use super::deadline::{Deadline, PendingRequest, TimeBudget};
use super::message::{CommandReport, WorkerReply, WorkerRequest};
use super::multipathd::Multipathd;
use super::path_threads::PathThreads;
use super::paths::{MapPath, PathContext, aborted, discover_paths};
use super::pr_in;
use super::pr_out::{self, NO_PATH, PrPath};
use super::version::MultipathdVersion;
use super::worker_trace::WorkerTrace;
use crate::command::device::{self, DeviceId, DeviceKind};
use crate::command::executor::CommandResult;
use crate::command::request_device::FdAccess;
use crate::process::privileges;

/// Capability that the broker holds, but uses only to remove the socket and the PID file, because
/// their directory can belong to another user. Workers drop it.
pub(super) const REMOVAL_CAPABILITY: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Time after which a worker without a request exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Name in `ps -e` and `/proc/PID/comm`.
const PROCESS_NAME: &CStr = c"pr-worker";

/// Data that the broker passes to a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerContext {
    /// The broker. The worker must not outlive it.
    pub(super) broker: Pid,
    /// Time limit for a command.
    pub(super) timeout: Duration,
}

/// Runs a worker process.
pub(super) fn run(socket: &OwnedFd, context: WorkerContext) -> u8 {
    // The helper sees only that the socket is closed, and logs that with the name of the client.
    let result = try_run(socket, context);
    result
        .inspect_err(|error| log::warn!("worker for a multipath map exits: {error}"))
        .is_err()
        .into()
}

fn try_run(socket: &OwnedFd, context: WorkerContext) -> io::Result<()> {
    set_name(PROCESS_NAME)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(context.broker) {
        return Err(io::Error::other("the broker has exited"));
    }
    privileges::drop_capabilities(REMOVAL_CAPABILITY)?;
    signals::reset_sigalrm()?;
    let threads = PathThreads::default();
    while let Some(request) = channel::receive_request(socket, IDLE_TIMEOUT)? {
        let has_hung_path = serve(socket, request, context.timeout, &threads)?;
        if has_hung_path {
            // The thread of the path ends with the process.
            break;
        }
        channel::send_ready(socket)?;
    }
    channel::close(socket)
}

/// Executes a request and sends the reply. Returns whether a path hangs.
fn serve(
    socket: &OwnedFd,
    request: ReceivedRequest,
    timeout: Duration,
    threads: &PathThreads,
) -> io::Result<bool> {
    let (deadline, is_traced) = match &request {
        ReceivedRequest::Command(request, _) => (request.deadline, request.is_traced),
        ReceivedRequest::Forget(request) => (request.deadline, request.is_traced),
    };
    let deadline = deadline.min(Deadline::after(timeout));
    let pending = PendingRequest::new(deadline, socket.try_clone()?);
    if !pending.is_pending() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // The alarm kills a worker that hangs, so that it executes nothing after the helper gave up.
    let seconds = deadline.time_left().as_millis().div_ceil(1000);
    alarm::set(u32::try_from(seconds.saturating_add(1)).unwrap_or(u32::MAX));

    let mut paths = Vec::new();
    let context = PathContext {
        trace: WorkerTrace::new(is_traced),
        threads: threads.clone(),
    };
    let reply = match request {
        ReceivedRequest::Command(request, map) => {
            execute(&request, &map, &pending, &mut paths, &context)
        }
        ReceivedRequest::Forget(request) => Ok(forget(request.map, &pending, &mut paths, &context)),
    };
    let mut reply = reply.unwrap_or_else(|error| {
        WorkerReply::Report(CommandReport {
            warnings: vec![format!("command rejected: {error}")],
            ..CommandReport::from_result(aborted(AdditionalSense::IO_PROCESS_TERMINATED))
        })
    });
    if let WorkerReply::Report(report) = &mut reply {
        report.trace = context.trace.take_lines();
    }
    send(socket, &reply.encode(), SendFlags::NOSIGNAL)?;
    let has_hung_path = paths.iter().any(MapPath::hangs);
    // Drop the paths after the reply, because closing a path can hang too.
    drop(paths);
    alarm::cancel();
    Ok(has_hung_path)
}

/// Checks the descriptor and executes the command. The helper has checked the descriptor already,
/// but the worker does not rely on that, because the helper reads what guests send.
fn execute(
    request: &WorkerRequest,
    map: &OwnedFd,
    pending: &PendingRequest,
    paths: &mut Vec<MapPath>,
    context: &PathContext,
) -> io::Result<WorkerReply> {
    let id = device::device_id(map.as_fd());
    let DeviceId::Block(major, minor) = id else {
        return Err(io::Error::other(format!("not a block device: {id}")));
    };
    let access = FdAccess::from_fd(map.as_fd());
    if access == FdAccess::PathOnly {
        return Err(io::Error::other("the map was opened with O_PATH"));
    }
    match device::kind(map.as_fd(), id)? {
        DeviceKind::Multipath => {}
        DeviceKind::Mapped => {
            return device::mapped_kind(map.as_fd(), id).map(WorkerReply::NotMultipath);
        }
        _ => return Err(io::Error::other(format!("not a multipath map: {id}"))),
    }
    let direction = request.command.direction();
    if direction == Direction::Out && access != FdAccess::Writable {
        return Err(io::Error::other("the map is open read-only"));
    }
    let sysfs_dir = device::sysfs_path(major, minor);
    *paths = discover_paths(&sysfs_dir, pending, context)?;
    match direction {
        Direction::In => Ok(WorkerReply::Report(execute_in(request, paths))),
        Direction::Out => {
            let multipathd = multipathd(&sysfs_dir, request.multipathd, pending, paths, context)?;
            let report = execute_out(request, paths, multipathd);
            Ok(WorkerReply::Report(report))
        }
    }
}

/// Removes the key of a map from multipathd, if no path is registered with it.
///
/// The helper has no descriptor of the map, because its clients have closed theirs. A helper that
/// sends another number can thus only make multipathd forget a key that has no effect.
fn forget(
    map: (u32, u32),
    pending: &PendingRequest,
    paths: &mut Vec<MapPath>,
    context: &PathContext,
) -> WorkerReply {
    let mut report = CommandReport::from_result(CommandResult::from_status(Status::GOOD));
    match try_forget(map, pending, paths, context) {
        Ok(Some(key)) => report.data = key.get().to_be_bytes().to_vec(),
        Ok(None) => {}
        // The map was removed after its last client had closed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => report.warnings.push(format!(
            "multipathd may keep a key although the last client has disconnected: {error}"
        )),
    }
    WorkerReply::Report(report)
}

fn try_forget(
    (major, minor): (u32, u32),
    pending: &PendingRequest,
    paths: &mut Vec<MapPath>,
    context: &PathContext,
) -> io::Result<Option<ReservationKey>> {
    let sysfs_dir = device::sysfs_path(major, minor);
    if !device::is_multipath_map(&sysfs_dir)? {
        return Ok(None);
    }
    *paths = discover_paths(&sysfs_dir, pending, context)?;
    let mut multipathd = multipathd(&sysfs_dir, None, pending, paths, context)?;
    pr_out::forget(paths, &mut multipathd).map_err(io::Error::other)
}

/// Creates a client of multipathd for the map at `sysfs_dir`, which has these paths.
fn multipathd(
    sysfs_dir: &Path,
    version: Option<MultipathdVersion>,
    pending: &PendingRequest,
    paths: &[MapPath],
    context: &PathContext,
) -> io::Result<Multipathd> {
    // The entry is a symbolic link to the directory of `dm-N`.
    let link = fs::read_link(sysfs_dir)?;
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let budget = TimeBudget::new(pending, paths.len());
    let trace = context.trace.clone();
    Ok(Multipathd::new(name.into_owned(), version, budget, trace))
}

/// Sends PERSISTENT RESERVE IN to one path after another, until one answers.
fn execute_in<P: PrPath>(request: &WorkerRequest, paths: &mut [P]) -> CommandReport {
    let mut data = vec![0; request.command.transfer_length()];
    let mut last = aborted(AdditionalSense::IO_PROCESS_TERMINATED);
    for path in paths {
        let cdb = request.command.cdb();
        match pr_in::send_until_answered(|| path.send(cdb, Data::FromDevice(&mut data))) {
            Ok(result) => {
                data.truncate(result.data_len);
                return CommandReport {
                    data,
                    ..CommandReport::from_result(result)
                };
            }
            Err(result) => last = result,
        }
    }
    CommandReport {
        warnings: vec![NO_PATH.to_owned()],
        ..CommandReport::from_result(last)
    }
}

/// Executes PERSISTENT RESERVE OUT or CLEANUP over all paths.
fn execute_out(
    request: &WorkerRequest,
    paths: &mut [MapPath],
    mut multipathd: Multipathd,
) -> CommandReport {
    let cdb = request.command.cdb();
    let done = match request.command.is_cleanup() {
        true => pr_out::cleanup(paths, &mut multipathd),
        false => pr_out::execute(paths, &mut multipathd, cdb, &request.parameter_list),
    };
    let mut warnings = done.warnings;
    warnings.extend(paths.iter().filter_map(MapPath::open_error));
    let version = match request.multipathd {
        Some(_) => None,
        None => multipathd.version(),
    };
    CommandReport {
        warnings,
        multipathd: version,
        ..CommandReport::from_result(done.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::sg::TransportOutcome;
    use pr_helper_protocol::{Command, wire};
    use std::fmt;

    /// Path that answers with GOOD, or is unreachable.
    struct TestPath {
        is_reachable: bool,
    }

    impl fmt::Display for TestPath {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("path")
        }
    }

    impl PrPath for TestPath {
        fn send(&mut self, _: &[u8; wire::CDB_SIZE], _: Data<'_>) -> TransportOutcome {
            match self.is_reachable {
                true => TransportOutcome::Completed(CommandResult::from_status(Status::GOOD)),
                false => {
                    TransportOutcome::NotDelivered(aborted(AdditionalSense::IO_PROCESS_TERMINATED))
                }
            }
        }

        fn wait_before_retry(&self) {}

        fn number(&self) -> String {
            "8:0".to_owned()
        }
    }

    fn read_keys(reachable: [bool; 2]) -> CommandReport {
        let cdb = wire::pad_cdb(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        let request = WorkerRequest {
            deadline: Deadline(u64::MAX),
            is_traced: false,
            multipathd: None,
            command: Command::new(cdb).unwrap(),
            parameter_list: Vec::new(),
        };
        let mut paths = reachable.map(|is_reachable| TestPath { is_reachable });
        execute_in(&request, &mut paths)
    }

    #[test]
    fn read_keys_without_a_path_is_warned_about() {
        let report = read_keys([false, false]);
        assert_eq!(report.result.status, Status::CHECK_CONDITION);
        assert_eq!(report.warnings, [NO_PATH]);
        let report = read_keys([false, true]);
        assert_eq!(report.result.status, Status::GOOD);
        assert_eq!(report.warnings, [""; 0]);
    }
}
