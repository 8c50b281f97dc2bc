// SPDX-License-Identifier: MIT OR Apache-2.0

//! Worker: a process that executes commands on multipath maps, one after another.
//!
//! The worker is privileged and treats the request as untrusted input: it executes only PERSISTENT
//! RESERVE commands, only on a multipath map, and PERSISTENT RESERVE OUT only if the map is open
//! for writing. It keeps nothing from one request to the next. It exits after a command for which a
//! path hangs, and if no request arrives for some time.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use linux_util::sg_io::Data;
use linux_util::signals;
use nix::unistd::alarm;
use pr_helper_protocol::Direction;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, set_name};
use scsi_pr::AdditionalSense;

use super::channel;
use super::deadline::{Deadline, PendingRequest, TimeBudget};
use super::message::{CommandReport, WorkerReply, WorkerRequest};
use super::multipathd::Multipathd;
use super::path_threads::PathThreads;
use super::paths::{MapPath, PathContext, aborted, discover_paths};
use super::pr_out::{self, PrPath as _};
use super::worker_trace::WorkerTrace;
use crate::command::device::{self, DeviceId, DeviceKind};
use crate::command::request_device::FdAccess;
use crate::command::sg::TransportOutcome;
use crate::process::privileges;

/// Capability that the broker holds, but uses only to remove the socket and the PID file, because
/// their directory can belong to another user. Workers drop it.
pub(super) const REMOVAL_CAPABILITY: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Time after which a worker without a request exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Division of the time for PERSISTENT RESERVE IN: the kernel can hold a command to the map for a
/// quarter of it, and the rest is for the single paths.
const MAP_SHARES: usize = 3;

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
    while let Some((request, map)) = channel::receive_request(socket, IDLE_TIMEOUT)? {
        let has_hung_path = serve(socket, &request, map, context.timeout, &threads)?;
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
    request: &WorkerRequest,
    map: OwnedFd,
    timeout: Duration,
    threads: &PathThreads,
) -> io::Result<bool> {
    let deadline = request.deadline.min(Deadline::after(timeout));
    let pending = PendingRequest::new(deadline, socket.try_clone()?);
    if !pending.is_pending() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // The alarm kills a worker that hangs, so that it executes nothing after the helper gave up.
    let seconds = deadline.time_left().as_millis().div_ceil(1000);
    alarm::set(u32::try_from(seconds.saturating_add(1)).unwrap_or(u32::MAX));

    let mut paths = Vec::new();
    let context = PathContext {
        trace: WorkerTrace::new(request.is_traced),
        threads: threads.clone(),
    };
    let reply = execute(request, map, &pending, &mut paths, &context);
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
    map: OwnedFd,
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
    let sysfs_dir = || fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
    match request.command.direction() {
        Direction::In => {
            let budget = TimeBudget::new(pending, MAP_SHARES);
            paths.push(MapPath::map(map, id, budget, context));
            let discover = || discover_paths(&sysfs_dir()?, pending, context);
            execute_in(request, paths, discover).map(WorkerReply::Report)
        }
        Direction::Out if access != FdAccess::Writable => {
            Err(io::Error::other("the map is open read-only"))
        }
        Direction::Out => {
            let sysfs_dir = sysfs_dir()?;
            *paths = discover_paths(&sysfs_dir, pending, context)?;
            let name = sysfs_dir.file_name().unwrap_or_default().to_string_lossy();
            let budget = TimeBudget::new(pending, paths.len());
            let trace = context.trace.clone();
            let multipathd = Multipathd::new(name.into_owned(), request.multipathd, budget, trace);
            let report = execute_out(request, paths, multipathd);
            Ok(WorkerReply::Report(report))
        }
    }
}

/// Executes PERSISTENT RESERVE IN. `paths` contains the map itself: the kernel chooses a path for
/// the command, but does not try a second one. The single paths that `discover` returns follow.
fn execute_in(
    request: &WorkerRequest,
    paths: &mut Vec<MapPath>,
    discover: impl FnOnce() -> io::Result<Vec<MapPath>>,
) -> io::Result<CommandReport> {
    let mut data = vec![0; request.command.transfer_length()];
    let mut last = aborted(AdditionalSense::IO_PROCESS_TERMINATED);
    let mut discover = Some(discover);
    let mut index = 0;
    while let Some(path) = paths.get_mut(index) {
        match path.send(request.command.cdb(), Data::FromDevice(&mut data)) {
            TransportOutcome::Completed(result) => {
                data.truncate(result.data_len);
                return Ok(CommandReport {
                    data,
                    ..CommandReport::from_result(result)
                });
            }
            TransportOutcome::NotDelivered(result) | TransportOutcome::Unknown(result) => {
                last = result;
            }
        }
        if let Some(discover) = discover.take() {
            paths.extend(discover()?);
        }
        index = index.saturating_add(1);
    }
    Ok(CommandReport::from_result(last))
}

/// Executes PERSISTENT RESERVE OUT over all paths.
fn execute_out(
    request: &WorkerRequest,
    paths: &mut [MapPath],
    mut multipathd: Multipathd,
) -> CommandReport {
    let cdb = request.command.cdb();
    let done = pr_out::execute(paths, &mut multipathd, cdb, &request.parameter_list);
    let mut warnings = done.warnings;
    warnings.extend(paths.iter().filter_map(MapPath::open_error));
    let version = match request.multipathd {
        Some(_) => None,
        None => multipathd.query_version(),
    };
    CommandReport {
        warnings,
        multipathd: version,
        ..CommandReport::from_result(done.result)
    }
}
