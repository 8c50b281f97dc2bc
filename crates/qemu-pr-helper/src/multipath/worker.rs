//! One command on a multipath map, in a process of its own, which ends with it.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path as FilePath;
use std::time::Duration;

use linux_util::sg_io::Data;
use linux_util::signals;
use nix::unistd::alarm;
use pr_helper_protocol::Direction;
use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use rustix::net::{SendFlags, send};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::set_name;
use scsi_pr::{AdditionalSense, SenseKey};

use super::broker::{FOR_REMOVAL, Start, wait};
use super::deadline::{Deadline, PendingRequest};
use super::message::{LONGEST_ORDER, Order, Reply, Report};
use super::multipathd::Multipathd;
use super::path::{Budget, Path, paths_of};
use super::pr_out::{self, Path as _};
use super::worker_trace::Trail;
use crate::command::device::{self, DeviceId, DeviceKind};
use crate::command::executor::CommandResult;
use crate::command::request_device::FdAccess;
use crate::command::sg::TransportOutcome;
use crate::process::privileges;

/// What a worker has beyond the command's own time, to say how it ended.
pub(super) const GRACE: Duration = Duration::from_secs(2);

const NAME: &CStr = c"pr-worker";

/// How long an order may take to come: it has been sent before the worker is there.
const ORDER: Duration = Duration::from_secs(1);

/// A worker's whole life: from the order to the report.
pub(super) fn run(socket: &OwnedFd, start: Start) -> u8 {
    match try_run(socket, start) {
        Ok(()) => 0,
        // The helper says for which client nothing came of it.
        Err(_) => 1,
    }
}

fn try_run(socket: &OwnedFd, start: Start) -> io::Result<()> {
    set_name(NAME)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(start.broker) {
        return Err(io::Error::other("the broker has ended"));
    }
    privileges::drop_capabilities(FOR_REMOVAL)?;
    let (order, map) = receive_order(socket)?;
    let deadline = order.deadline.min(Deadline::after(start.patience));
    let request = PendingRequest::new(deadline, socket.try_clone()?);
    if !request.is_pending() {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    // The alarm ends a worker that hangs, so that it executes nothing after the helper gave up.
    signals::reset_sigalrm()?;
    let seconds = deadline.time_left().as_millis().div_ceil(1000);
    alarm::set(u32::try_from(seconds.saturating_add(1)).unwrap_or(u32::MAX));

    let mut paths = Vec::new();
    let trail = Trail::new(order.is_traced);
    let reply = execute(&order, map, &request, &mut paths, &trail);
    let mut reply = reply.unwrap_or_else(|error| {
        Reply::Report(Report {
            remarks: vec![format!("command refused: {error}")],
            ..Report::of(terminated())
        })
    });
    if let Reply::Report(report) = &mut reply {
        report.steps = trail.take();
    }
    send(socket, &reply.encode(), SendFlags::NOSIGNAL)?;
    // To close a path can hang as well: not before the report.
    drop(paths);
    Ok(())
}

/// Receives a request and the map's descriptor.
fn receive_order(socket: &OwnedFd) -> io::Result<(Order, OwnedFd)> {
    wait(socket, ORDER)?;
    let mut buffer = vec![0; LONGEST_ORDER];
    let (length, descriptors) =
        fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait)?;
    let order = buffer.get(..length).and_then(Order::decode);
    match (order, descriptors) {
        (Some(order), ReceivedFds::One(map)) => Ok((order, map)),
        _ => Err(io::Error::other("the helper sent a malformed request")),
    }
}

/// The command was not done.
fn terminated() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::IO_PROCESS_TERMINATED,
    )
}

/// The helper has looked at the descriptor already. That counts for nothing here: it is the helper who
/// reads what guests send.
fn execute(
    order: &Order,
    map: OwnedFd,
    request: &PendingRequest,
    paths: &mut Vec<Path>,
    trail: &Trail,
) -> io::Result<Reply> {
    let number = device::device_id(map.as_fd());
    let DeviceId::Block(major, minor) = number else {
        return Err(io::Error::other(format!("{number} is no map")));
    };
    let access = FdAccess::from_fd(map.as_fd());
    if access == FdAccess::PathOnly {
        return Err(io::Error::other("the map is not open, only named (O_PATH)"));
    }
    match device::kind(map.as_fd(), number)? {
        DeviceKind::Multipath => {}
        DeviceKind::Mapped => return device::mapped_kind(map.as_fd(), number).map(Reply::Kind),
        _ => return Err(io::Error::other(format!("{number} is no multipath map"))),
    }
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))?;
    *paths = paths_of(&folder, request, trail)?;
    match order.command.direction() {
        Direction::In => {
            let time_left = request.deadline().time_left();
            let budget = Budget::new(time_left, paths.len().saturating_add(1));
            paths.insert(0, Path::map(map, number, budget, request, trail));
            Ok(Reply::Report(read(order, paths)))
        }
        Direction::Out if access != FdAccess::Writable => {
            Err(io::Error::other("the map is open for reading alone"))
        }
        Direction::Out => {
            let report = write(order, &folder, paths, request, trail);
            Ok(Reply::Report(report))
        }
    }
}

/// PERSISTENT RESERVE IN: by the map, where the kernel chooses a path, but does not try a second one.
fn read(order: &Order, paths: &mut [Path]) -> Report {
    let mut data = vec![0; order.command.transfer_length()];
    let mut last = None;
    for path in paths {
        match path.send(order.command.cdb(), Data::FromDevice(&mut data)) {
            TransportOutcome::Completed(outcome) => {
                data.truncate(outcome.data_len);
                return Report {
                    data,
                    ..Report::of(outcome)
                };
            }
            TransportOutcome::NotDelivered(outcome) | TransportOutcome::Unknown(outcome) => {
                last = Some(outcome);
            }
        }
    }
    Report::of(last.unwrap_or_else(terminated))
}

/// PERSISTENT RESERVE OUT: by all paths.
fn write(
    order: &Order,
    folder: &FilePath,
    paths: &mut [Path],
    request: &PendingRequest,
    trail: &Trail,
) -> Report {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let budget = Budget::new(request.deadline().time_left(), paths.len());
    let name = name.into_owned();
    let mut multipathd = Multipathd::new(name, budget, request.clone(), trail.clone());
    let cdb = order.command.cdb();
    let done = pr_out::execute(paths, &mut multipathd, cdb, &order.list);
    let mut remarks = done.remarks;
    remarks.extend(paths.iter().filter_map(Path::trouble));
    Report {
        remarks,
        ..Report::of(done.outcome)
    }
}
