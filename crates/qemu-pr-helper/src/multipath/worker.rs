// SPDX-License-Identifier: MIT OR Apache-2.0

//! Worker: a process that executes commands on multipath maps, one after another.
//!
//! The worker is privileged and treats the request as untrusted input: it executes only PERSISTENT
//! RESERVE commands and CLEANUP, only on a multipath map, and PERSISTENT RESERVE OUT and CLEANUP
//! only if the map is open for writing. It also makes multipathd forget the key of a map, if no
//! path is registered with it, and checks whether paths are registered. It keeps nothing of a
//! request except open files. It exits after a command for which a path hangs, and if no request
//! arrives for some time.

use std::ffi::CStr;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use helper_state::PathRegistration;
use linux_util::sg_io::Data;
use nix::unistd::alarm;
use pr_helper_protocol::Direction;
use rustix::net::{SendFlags, send};
use rustix::process::Pid;
use rustix::thread::CapabilitySet;
use scsi_pr::{AdditionalSense, Status};

use super::channel::{self, ReceivedRequest};
use super::deadline::{Deadline, PendingRequest, TimeBudget};
use super::message::{CommandReport, MapAction, WorkerReply, WorkerRequest};
use super::multipathd::Multipathd;
use super::multipathd_connection::Connection;
use super::paths::{MapPath, aborted};
use super::pr_in;
use super::pr_out::{self, NO_PATH, PrPath};
use super::steps::{Attempt, Steps, WatchEvent};
use super::sysfs_map::{PathId, SysfsMap};
use super::worker_trace::WorkerTrace;
use crate::command::device::{self, DeviceId, DeviceKind};
use crate::command::executor::CommandResult;
use crate::command::request_device::FdAccess;
use crate::process::child;

/// Capability that the broker holds, but uses only to remove the socket and the PID file, because
/// their directory can belong to another user. Workers drop it.
pub(super) const REMOVAL_CAPABILITY: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Time after which a worker without a request exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without a request after which a worker closes the paths. A guest sends several commands at
/// once, and opening a path takes a tenth of the time of RESERVE. But a disk that is open when it
/// is removed keeps its name from the disk that replaces it.
const KEEP_OPEN_TIMEOUT: Duration = Duration::from_millis(100);

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

/// State that the threads of a worker share.
#[derive(Debug)]
struct Worker {
    socket: Arc<OwnedFd>,
    /// Time limit for a command.
    timeout: Duration,
    steps: Arc<Steps>,
    /// The current request, which is executed again if a step hangs.
    job: Mutex<Option<Arc<Job>>>,
}

/// A request, and what it needs before its first step.
#[derive(Debug)]
struct Job {
    action: Action,
    is_traced: bool,
    pending: PendingRequest,
    target: io::Result<Target>,
    /// The map of the command, which is closed after the reply.
    _descriptor: Option<OwnedFd>,
}

#[derive(Debug)]
enum Action {
    Command(WorkerRequest),
    Map(MapAction),
}

/// Device of a request.
#[derive(Debug)]
enum Target {
    Map {
        /// The kernel's name, `dm-N`.
        name: String,
        paths: Vec<PathId>,
    },
    NotMultipath(DeviceKind),
    /// The map of a request without a descriptor does not exist anymore.
    Gone,
}

/// Objects that a worker keeps from one request to the next.
#[derive(Debug, Default)]
struct Kept {
    connection: Connection,
    /// The map of the last request.
    map: Option<SysfsMap>,
}

/// Runs a worker process. Its first thread watches the others, because a step of a request can
/// hang.
pub(super) fn run(socket: &OwnedFd, context: WorkerContext) -> u8 {
    // The helper sees only that the socket is closed, and logs that with the name of the client.
    let result = try_run(socket, context);
    result
        .inspect_err(|error| log::warn!("worker for a multipath map exits: {error}"))
        .is_err()
        .into()
}

fn try_run(socket: &OwnedFd, context: WorkerContext) -> io::Result<()> {
    child::begin(PROCESS_NAME, context.broker, REMOVAL_CAPABILITY)?;
    let worker = Arc::new(Worker {
        socket: Arc::new(socket.try_clone()?),
        timeout: context.timeout,
        steps: Steps::new()?,
        job: Mutex::default(),
    });
    spawn(&worker, Worker::serve)?;
    loop {
        match worker.steps.watch() {
            // The thread that hangs ends with the process.
            WatchEvent::StepHangs => spawn(&worker, Worker::execute_again)?,
            WatchEvent::Ended(result) => return result.and_then(|()| channel::close(socket)),
        }
    }
}

/// Starts a thread, with which the worker ends.
fn spawn(worker: &Arc<Worker>, run: fn(&Worker) -> io::Result<()>) -> io::Result<()> {
    let worker = Arc::clone(worker);
    let run = move || worker.steps.end(run(&worker));
    thread::Builder::new().spawn(run).map(|_| ())
}

impl Worker {
    /// Executes requests, until none arrives for some time.
    fn serve(&self) -> io::Result<()> {
        let mut kept = Kept::default();
        while let Some(request) = self.next_request(&mut kept)? {
            let deadline = request.deadline().min(Deadline::after(self.timeout));
            let pending = PendingRequest::new(deadline, Arc::clone(&self.socket));
            if deadline.time_left().is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            set_alarm(deadline);
            let job = Arc::new(Job::new(request, pending, &mut kept.map));
            *self.job() = Some(Arc::clone(&job));
            let attempt = self.steps.begin_request()?;
            self.execute(&job, attempt, &mut kept.connection)?;
            self.steps.end_request();
            // Close the map.
            *self.job() = None;
            drop(job);
            alarm::cancel();
            channel::send_ready(&self.socket)?;
        }
        Ok(())
    }

    /// Waits for the next request, with the paths open for a moment; `None` if there is none.
    fn next_request(&self, kept: &mut Kept) -> io::Result<Option<ReceivedRequest>> {
        let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        match channel::receive_request(&self.socket, KEEP_OPEN_TIMEOUT) {
            Err(error) if is_timeout(&error) => {}
            received => return received,
        }
        if let Some(map) = &mut kept.map {
            map.close_devices();
        }
        match channel::receive_request(&self.socket, IDLE_TIMEOUT) {
            Err(error) if is_timeout(&error) => channel::receive_last_request(&self.socket),
            received => received,
        }
    }

    /// Executes the current request again after a step has hung, and no further request.
    fn execute_again(&self) -> io::Result<()> {
        let job = self.job().clone();
        let job = job.ok_or_else(|| io::Error::other("no request is being executed"))?;
        let mut connection = Connection::default();
        self.execute(&job, self.steps.attempt(), &mut connection)
    }

    /// Executes a request and sends the reply.
    fn execute(
        &self,
        job: &Job,
        attempt: Rc<Attempt>,
        connection: &mut Connection,
    ) -> io::Result<()> {
        let mut execution = Execution {
            job,
            attempt,
            connection,
            trace: WorkerTrace::new(job.is_traced),
            paths: Vec::new(),
        };
        let mut reply = execution.run();
        if let WorkerReply::Report(report) = &mut reply {
            report.trace = execution.trace.take_lines();
        }
        send(&self.socket, &reply.encode(), SendFlags::NOSIGNAL)?;
        // The guest does not wait for this. The next change to the map does, unless the helper has
        // given up this one.
        execution.connection.send_posted();
        Ok(())
    }

    fn job(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the kernel kill this process soon after the deadline. A worker that hangs must not execute
/// anything after the helper has given up.
fn set_alarm(deadline: Deadline) {
    let seconds = deadline.time_left().as_millis().div_ceil(1000);
    alarm::set(u32::try_from(seconds.saturating_add(1)).unwrap_or(u32::MAX));
}

impl Job {
    /// Finds the paths of the request's map, which is kept in `map`.
    fn new(request: ReceivedRequest, pending: PendingRequest, map: &mut Option<SysfsMap>) -> Self {
        let is_traced = request.is_traced();
        let (action, target, descriptor) = match request {
            ReceivedRequest::Command(request, descriptor) => {
                let target = target_of_command(&request, descriptor.as_fd(), map);
                (Action::Command(request), target, Some(descriptor))
            }
            ReceivedRequest::Map(request) => {
                let target = target_of_number(request.map, map);
                (Action::Map(request.action), target, None)
            }
        };
        Self {
            action,
            is_traced,
            pending,
            target,
            _descriptor: descriptor,
        }
    }
}

/// Checks the descriptor of a command. The helper has checked it already, but the worker does not
/// rely on that, because the helper reads what guests send.
fn target_of_command(
    request: &WorkerRequest,
    descriptor: BorrowedFd<'_>,
    map: &mut Option<SysfsMap>,
) -> io::Result<Target> {
    let id = device::device_id(descriptor);
    let DeviceId::Block(major, minor) = id else {
        return Err(io::Error::other(format!("not a block device: {id}")));
    };
    let access = FdAccess::from_fd(descriptor);
    if access == FdAccess::PathOnly {
        return Err(io::Error::other("the map was opened with O_PATH"));
    }
    let Some(map) = find_map((major, minor), map)? else {
        return match device::kind(descriptor, id)? {
            DeviceKind::Mapped => device::mapped_kind(descriptor, id).map(Target::NotMultipath),
            _ => Err(io::Error::other(format!("not a multipath map: {id}"))),
        };
    };
    match request.command.direction() {
        Direction::Out if access != FdAccess::Writable => {
            Err(io::Error::other("the map is open read-only"))
        }
        _ => target_of_map(map),
    }
}

/// Returns the map with this number.
///
/// The helper has no descriptor of it, because its clients have closed theirs. A helper that sends
/// another number can only make multipathd forget a key that has no effect, and learn which paths
/// are registered.
fn target_of_number(number: (u32, u32), map: &mut Option<SysfsMap>) -> io::Result<Target> {
    match find_map(number, map) {
        Ok(Some(map)) => target_of_map(map),
        Ok(None) => Ok(Target::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Target::Gone),
        Err(error) => Err(error),
    }
}

fn target_of_map(map: &mut SysfsMap) -> io::Result<Target> {
    Ok(Target::Map {
        paths: map.paths()?,
        name: map.name(),
    })
}

/// Returns the map with this number, which is `kept` or stored there; `None` if it is not a
/// multipath map.
fn find_map(number: (u32, u32), kept: &mut Option<SysfsMap>) -> io::Result<Option<&mut SysfsMap>> {
    if !kept.as_ref().is_some_and(|map| map.is(number)) {
        *kept = SysfsMap::open(number)?;
    }
    Ok(kept.as_mut())
}

/// Execution of a request by one thread.
struct Execution<'a> {
    job: &'a Job,
    attempt: Rc<Attempt>,
    connection: &'a mut Connection,
    trace: WorkerTrace,
    paths: Vec<MapPath>,
}

impl Execution<'_> {
    fn run(&mut self) -> WorkerReply {
        let job = self.job;
        let (name, paths) = match &job.target {
            Ok(Target::Map { name, paths }) => (name, paths),
            Ok(Target::NotMultipath(kind)) => return WorkerReply::NotMultipath(*kind),
            Ok(Target::Gone) => return WorkerReply::Report(good()),
            Err(error) => {
                let report = match job.action {
                    Action::Command(_) => rejected(error),
                    Action::Map(MapAction::ForgetKey) => key_may_remain(error),
                    Action::Map(MapAction::CheckPaths(_)) => not_checked(),
                };
                return WorkerReply::Report(report);
            }
        };
        let is_used = |id: &&PathId| match &job.action {
            Action::Map(MapAction::CheckPaths(registered)) => needs_check(id, registered),
            _ => true,
        };
        let budget = TimeBudget::new(&job.pending, paths.iter().filter(is_used).count());
        let new_path = |id| MapPath::new(id, &budget, &self.attempt, &self.trace);
        self.paths = paths.iter().filter(is_used).map(new_path).collect();
        let multipathd = |version| {
            let (attempt, trace) = (Rc::clone(&self.attempt), self.trace.clone());
            Multipathd::new(
                name.clone(),
                self.connection,
                version,
                budget,
                attempt,
                trace,
            )
        };
        WorkerReply::Report(match &job.action {
            Action::Map(MapAction::ForgetKey) => forget(&mut self.paths, multipathd(None)),
            Action::Map(MapAction::CheckPaths(registered)) => {
                check(paths, registered, &mut self.paths, multipathd(None))
            }
            Action::Command(request) => match request.command.direction() {
                Direction::In => execute_in(request, &mut self.paths),
                Direction::Out => {
                    execute_out(request, &mut self.paths, multipathd(request.multipathd))
                }
            },
        })
    }
}

fn good() -> CommandReport {
    CommandReport::from_result(CommandResult::from_status(Status::GOOD))
}

fn rejected(error: &io::Error) -> CommandReport {
    CommandReport {
        warnings: vec![format!("command rejected: {error}")],
        ..CommandReport::from_result(aborted(AdditionalSense::IO_PROCESS_TERMINATED))
    }
}

fn key_may_remain(error: &dyn Display) -> CommandReport {
    let text =
        format!("multipathd may keep a key although the last client has disconnected: {error}");
    CommandReport {
        warnings: vec![text],
        ..good()
    }
}

/// Removes the key of the map from multipathd, if no path is registered with it.
fn forget(paths: &mut [MapPath], mut multipathd: Multipathd<'_>) -> CommandReport {
    match pr_out::forget(paths, &mut multipathd) {
        Ok(Some(key)) => CommandReport {
            data: key.get().to_be_bytes().to_vec(),
            ..good()
        },
        Ok(None) => good(),
        Err(error) => key_may_remain(&error),
    }
}

/// Returns whether a path must be asked whether it is registered. A path that the SCSI layer has
/// given up cannot answer, or would hang.
fn needs_check(path: &PathId, registered: &[String]) -> bool {
    path.is_running && !registered.contains(&path.number.to_string())
}

/// Reports the paths of a map. Of these, `checked` are not known to be registered, and are asked.
/// The result is GOOD unless one of them hangs.
fn check(
    paths: &[PathId],
    registered: &[String],
    checked: &mut [MapPath],
    mut multipathd: Multipathd<'_>,
) -> CommandReport {
    let found = match checked {
        [] => Some(Vec::new()),
        _ => match pr_out::check(checked, &mut multipathd) {
            Ok(found) => found,
            Err(_) => return not_checked(),
        },
    };
    let mut found = found.map(Vec::into_iter);
    let report = |path: &PathId| {
        let registration = match &mut found {
            None => PathRegistration::NotRegistered,
            Some(found) if needs_check(path, registered) => {
                found.next().unwrap_or(PathRegistration::Unknown)
            }
            Some(_) if registered.contains(&path.number.to_string()) => {
                PathRegistration::Registered
            }
            Some(_) => PathRegistration::Unknown,
        };
        path.report(registration)
    };
    let result = match checked.iter().any(MapPath::has_timed_out) {
        true => aborted(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING),
        false => CommandResult::from_status(Status::GOOD),
    };
    CommandReport {
        paths: paths.iter().map(report).collect(),
        ..CommandReport::from_result(result)
    }
}

/// Returns the reply if the paths cannot be checked.
fn not_checked() -> CommandReport {
    CommandReport::from_result(aborted(AdditionalSense::IO_PROCESS_TERMINATED))
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
    mut multipathd: Multipathd<'_>,
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
    let paths = paths.iter().zip(done.registrations);
    CommandReport {
        warnings,
        multipathd: version,
        paths: paths
            .map(|(path, registration)| path.report(registration))
            .collect(),
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

    impl Display for TestPath {
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
