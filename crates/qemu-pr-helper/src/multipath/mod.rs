// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE commands on multipath maps: logical units that several paths lead to.
//!
//! | module | contents |
//! |---|---|
//! | `broker` | privileged process that starts workers, and its client |
//! | `control` | control messages from the helper to the broker |
//! | `workers` | child processes of the broker |
//! | `idle_workers` | workers that wait for the next command |
//! | `worker` | process that executes commands |
//! | `channel` | socket pair between the helper and a worker |
//! | [`message`] | format of a worker's request and reply |
//! | [`deadline`] | deadline of a command, and the check that the helper still waits |
//! | `pr_in` | PERSISTENT RESERVE IN over one path |
//! | [`pr_out`] | PERSISTENT RESERVE OUT over all paths |
//! | `sysfs_map` | a map and its paths in sysfs |
//! | `paths` | paths of a map, with a time limit for each |
//! | `steps` | steps of a request, and their repetition after one has hung |
//! | `map_threads` | threads of the helper that wait for the replies of maps |
//! | `multipathd` | client of multipathd, which registers paths that return |
//! | `multipathd_connection` | its connection |
//! | [`version`] | version of multipathd, and what it means |
//! | [`worker_trace`] | trace of a worker's steps |
//! | `map_queues` | order and number of the commands on a map |
//! | `map_users` | connections that use maps |
//! | `map_paths` | registrations of the paths of maps |

pub(crate) mod broker;
mod channel;
mod control;
pub mod deadline;
mod idle_workers;
mod map_paths;
mod map_queues;
mod map_threads;
mod map_users;
pub mod message;
mod multipathd;
mod multipathd_connection;
mod paths;
mod pr_in;
pub mod pr_out;
mod steps;
mod sysfs_map;
pub mod version;
mod worker;
pub mod worker_trace;
mod workers;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use helper_state::PathRegistration;
use pr_helper_protocol::{Command, Direction, Request};
use scsi_pr::{
    AdditionalSense, Cdb, OutServiceAction, ReservationKey, ReservationType, SenseKey, Status,
};

use crate::command::command_log;
use crate::command::device::{DeviceId, DeviceKind};
use crate::command::executor::CommandResult;
use crate::command::peer::{Peer, ProcessKey};
use crate::error_chain;
use crate::logging::KeyedRateLimit;
use crate::monitor::document::MapStates;
use crate::server::limiter::Limiter;
use crate::trace::{event_enabled, trace};

use broker::Broker;
use channel::WorkerError;
use deadline::Deadline;
use map_paths::{CheckEnd, MapPaths};
use map_queues::{MapQueues, MapTurn};
use map_threads::{MapThreads, TaskError};
use map_users::MapUsers;
use message::{MapAction, MapRequest, WorkerReply, WorkerRequest};
use pr_in::{ReaderLimiter, WholeMap};
use version::MultipathdVersion;
use worker_trace::WorkerTrace;

/// Maximum number of descriptors that a command takes beside the map's: the socket pair to its
/// worker.
pub(crate) const FDS_PER_COMMAND: u64 = 2;

/// Maximum number of threads that wait for one map. If that many hang, workers execute PERSISTENT
/// RESERVE IN for this map, as many at a time.
const MAX_READERS: usize = 4;

/// Division of the time for PERSISTENT RESERVE IN: one share is for the map, where the kernel can
/// hold the command, and the rest is for the single paths.
const MAP_SHARES: u32 = 4;

/// Time limit for a check of the paths of a map. A command that changes the map waits meanwhile.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that a state document waits for the checks of paths.
const CHECK_WAIT: Duration = Duration::from_millis(300);

/// Time limit for forgetting a key. While a path fails, multipathd takes seconds for a reply. A
/// client that connects meanwhile waits for it.
const FORGET_TIMEOUT: Duration = Duration::from_secs(10);

/// Executor of commands on multipath maps.
#[derive(Debug)]
pub struct Multipath {
    broker: Arc<Broker>,
    /// Commands that change maps. Two concurrent changes could leave the paths of a map with
    /// different keys.
    changes: MapQueues,
    /// PERSISTENT RESERVE IN that is executed by workers.
    worker_reads: MapQueues,
    users: MapUsers,
    paths: MapPaths,
    /// True while a thread checks paths.
    is_checking: AtomicBool,
    /// Threads that wait for maps to answer PERSISTENT RESERVE IN.
    readers: MapThreads,
    reader_limiter: Arc<ReaderLimiter>,
    /// Version of multipathd at the first change to each map.
    versions: Mutex<BTreeMap<DeviceId, MultipathdVersion>>,
    timeout: Duration,
    /// Value of `--reject-exclusive-types`.
    rejects_exclusive: bool,
    /// Rate limit of the warnings, by client process, map and kind of warning.
    warnings: KeyedRateLimit<(ProcessKey, DeviceId, String)>,
}

impl Multipath {
    /// Creates an executor that uses `broker` and gives each command `timeout`.
    pub(crate) fn new(broker: Arc<Broker>, timeout: Duration, rejects_exclusive: bool) -> Self {
        Self {
            broker,
            changes: MapQueues::new(1),
            worker_reads: MapQueues::new(MAX_READERS),
            users: MapUsers::default(),
            paths: MapPaths::default(),
            is_checking: AtomicBool::new(false),
            readers: MapThreads::default(),
            reader_limiter: Arc::new(ReaderLimiter::new(MAX_READERS)),
            versions: Mutex::default(),
            timeout,
            rejects_exclusive,
            warnings: KeyedRateLimit::new(),
        }
    }

    /// Returns the exclusive type of the reservation that a command on a map would create, if such
    /// reservations are rejected.
    pub(crate) fn rejected_type(&self, command: &Command) -> Option<ReservationType> {
        exclusive_type(command).filter(|_| self.rejects_exclusive)
    }

    /// Returns the state of the maps, after a check of the paths that are not known to be
    /// registered, if the last one is long ago.
    pub(crate) fn states(self: &Arc<Self>) -> MapStates {
        self.check_paths();
        MapStates {
            workers: self.broker.workers(),
            paths: self.paths.to_state(),
        }
    }

    /// Checks the maps that are due, and waits a moment for the result. A check that hangs
    /// continues, and no other begins meanwhile.
    fn check_paths(self: &Arc<Self>) {
        let due = self.paths.due(Instant::now());
        if due.is_empty() || self.is_checking.swap(true, Ordering::Acquire) {
            return;
        }
        let multipath = Arc::clone(self);
        let check = move || {
            for map in due {
                multipath.check(map);
            }
            multipath.is_checking.store(false, Ordering::Release);
        };
        if self.readers.run(CHECK_WAIT, check) == Err(TaskError::NotStarted) {
            self.is_checking.store(false, Ordering::Release);
        }
    }

    /// Checks whether the paths of a map that are not known to be registered are.
    fn check(&self, map: DeviceId) {
        // A command that changes the map shows the registrations too.
        let Some(turn) = self.changes.try_turn(map) else {
            self.paths.postpone(map);
            return;
        };
        // A client records its use of the map before it waits for its turn.
        if !self.users.is_used(map) {
            self.paths.postpone(map);
            return;
        }
        // A command can have changed the map since it was found to be due.
        let Some(registered) = self.paths.registered_if_due(map, Instant::now()) else {
            return;
        };
        let action = MapAction::CheckPaths(registered);
        let reply = self.execute_on_map(map, CHECK_TIMEOUT, false, action);
        let (end, reports) = match reply {
            Some(Ok(WorkerReply::Report(report))) if report.paths.is_empty() => {
                (CheckEnd::Failed, report.paths)
            }
            Some(Ok(WorkerReply::Report(report))) if report.result.status == Status::GOOD => {
                (CheckEnd::Complete, report.paths)
            }
            Some(Ok(WorkerReply::Report(report))) => (CheckEnd::Hung, report.paths),
            _ => (CheckEnd::Hung, Vec::new()),
        };
        let changed = self.paths.set_checked(map, end, reports);
        drop(turn);
        for path in changed {
            match path.registration {
                PathRegistration::Registered => {
                    log::info!("multipath map {map}: path {} is registered", path.node);
                }
                PathRegistration::NotRegistered => log::warn!(
                    "multipath map {map}: path {} is not registered, so that writes through it \
                     fail if the disk is reserved; see 'multipathd show paths', and let the guest \
                     register again",
                    path.node
                ),
                PathRegistration::Unknown => {}
            }
        }
    }

    /// Executes an action on a map that no client waits for; `None` if it is not a block device.
    fn execute_on_map(
        &self,
        map: DeviceId,
        timeout: Duration,
        is_traced: bool,
        action: MapAction,
    ) -> Option<Result<WorkerReply, WorkerError>> {
        let DeviceId::Block(major, minor) = map else {
            return None;
        };
        Some(self.broker.execute_on_map(&MapRequest {
            deadline: Deadline::after(timeout.min(self.timeout)),
            is_traced,
            map: (major, minor),
            action,
        }))
    }

    /// Executes a request on the device-mapper device that `descriptor` refers to. Returns its kind
    /// if it is not a map; in that case nothing was executed.
    pub(crate) fn execute(
        &self,
        client: &Peer,
        descriptor: BorrowedFd<'_>,
        (map, kind): (DeviceId, DeviceKind),
        request: &Request,
        data: &mut [u8],
    ) -> Result<CommandResult, DeviceKind> {
        let deadline = Deadline::after(self.timeout);
        self.users.add(map, client.connection_id());
        let direction = request.command.direction();
        if direction == Direction::In
            && kind == DeviceKind::Multipath
            && let Some(result) = self.read_from_map(client, map, descriptor, request, data)
        {
            return Ok(result);
        }
        let Some(turn) = self.wait_for_turn(client, map, direction, deadline) else {
            return Ok(CommandResult::from_status(Status::BUSY));
        };
        let request = WorkerRequest {
            deadline,
            is_traced: event_enabled!(pr_helper_path, pr_helper_multipathd),
            multipathd: self.versions().get(&map).copied(),
            command: request.command,
            parameter_list: request.parameters.clone(),
        };
        let reply = self.execute_in_worker(client, map, descriptor, &request);
        // Another device-mapper device has no key.
        if direction == Direction::Out && !matches!(reply, Ok(WorkerReply::NotMultipath(_))) {
            self.users.set_changed(map);
        }
        let report = match reply {
            Ok(WorkerReply::Report(report)) => report,
            Ok(WorkerReply::NotMultipath(kind)) => return Err(kind),
            Err(error) => {
                if direction == Direction::Out {
                    self.paths.set_unknown(map);
                }
                return Ok(self.worker_failed(client, map, &error));
            }
        };
        match report.paths.is_empty() {
            false => self.paths.set(map, report.paths),
            // The command can have changed some of the paths.
            true if direction == Direction::Out && is_aborted(&report.result) => {
                self.paths.set_unknown(map);
            }
            true => {}
        }
        drop(turn);
        if let Some(version) = report.multipathd {
            self.add_version(client, map, version);
        }
        self.warn_all(client, map, report.warnings);
        let mut result = report.result;
        result.data_len = data
            .iter_mut()
            .zip(&report.data)
            .map(|(to, from)| *to = *from)
            .count();
        Ok(result)
    }

    /// Sends PERSISTENT RESERVE IN to the map itself; `None` if the map does not answer.
    fn read_from_map(
        &self,
        client: &Peer,
        map: DeviceId,
        descriptor: BorrowedFd<'_>,
        request: &Request,
        data: &mut [u8],
    ) -> Option<CommandResult> {
        let permit = Limiter::try_acquire(Arc::clone(&self.reader_limiter), map)?;
        let trace = WorkerTrace::new(event_enabled!(pr_helper_path));
        let timeout = self.timeout / MAP_SHARES;
        let device = WholeMap::new(descriptor, permit, &self.readers, &trace, timeout).ok()?;
        let cdb = request.command.cdb();
        let result = pr_in::send_until_answered(|| device.send(cdb, data));
        trace_steps(client, map, &trace.take_lines());
        result.ok()
    }

    /// Records that a client has disconnected. With `may_block`, removes the key from multipathd
    /// for each map that the client was the last user of, if no path is registered with it.
    ///
    /// Otherwise multipathd would register a path that returns, although the guest has migrated to
    /// another host with its key, or was fenced.
    pub(crate) fn disconnected(&self, client: &Peer, may_block: bool) {
        for map in self.users.remove(client.connection_id()) {
            if may_block {
                self.forget(client, map);
            }
        }
    }

    fn forget(&self, client: &Peer, map: DeviceId) {
        // A check of the paths ends in this time. If a command of another client changes the map,
        // the map is in use.
        let Some(turn) = self.changes.wait(map, CHECK_TIMEOUT) else {
            return;
        };
        // A client records its use of the map before it waits for its turn.
        if self.users.is_used(map) {
            return;
        }
        let is_traced = event_enabled!(pr_helper_path, pr_helper_multipathd);
        let reply = self.execute_on_map(map, FORGET_TIMEOUT, is_traced, MapAction::ForgetKey);
        let Some(reply) = reply else {
            return;
        };
        let is_forgotten = match &reply {
            Ok(WorkerReply::Report(report)) => !report.data.is_empty(),
            Ok(WorkerReply::NotMultipath(_)) => true,
            Err(_) => false,
        };
        if is_forgotten {
            self.paths.remove(map);
        }
        drop(turn);
        match reply {
            Ok(WorkerReply::Report(report)) => {
                trace_steps(client, map, &report.trace);
                if let Ok(key) = report.data.as_slice().try_into() {
                    let key = ReservationKey::new(u64::from_be_bytes(key));
                    log::info!(
                        "{client}: multipath map {map}: key {key} removed from multipathd: the \
                         last client has disconnected, and no path is registered"
                    );
                }
                self.warn_all(client, map, report.warnings);
            }
            Ok(WorkerReply::NotMultipath(_)) => {}
            Err(error) => log::warn!(
                "{client}: multipath map {map}: key may remain in multipathd: {}",
                error_chain(&error)
            ),
        }
    }

    /// Waits until a worker may execute a command on the map; `None` after the deadline.
    fn wait_for_turn(
        &self,
        client: &Peer,
        map: DeviceId,
        direction: Direction,
        deadline: Deadline,
    ) -> Option<MapTurn<'_>> {
        let start = Instant::now();
        let queues = match direction {
            Direction::In => &self.worker_reads,
            Direction::Out => &self.changes,
        };
        let turn = queues.wait(map, deadline.time_left());
        trace!(pr_helper_map_turn(
            client.connection_id(),
            &map.to_string(),
            u8::from(turn.is_some()),
            command_log::microseconds(start.elapsed()),
        ));
        turn
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<DeviceId, MultipathdVersion>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores multipathd's version, and logs it once for each map.
    fn add_version(&self, client: &Peer, map: DeviceId, version: MultipathdVersion) {
        if self.versions().insert(map, version).is_some() {
            return;
        }
        match version.may_undo_fencing() {
            true => log::warn!(
                "{client}: multipath map {map}: multipathd {version} can register a path that \
                 returns with a preempted key, so that a fenced host writes again; update \
                 multipath-tools to 0.13.1 or later"
            ),
            false => log::info!("{client}: multipath map {map}: multipathd {version}"),
        }
    }

    fn execute_in_worker(
        &self,
        client: &Peer,
        map: DeviceId,
        descriptor: BorrowedFd<'_>,
        request: &WorkerRequest,
    ) -> Result<WorkerReply, WorkerError> {
        trace!(pr_helper_worker_begin(
            client.connection_id(),
            &map.to_string(),
            &command_log::service_action_name(&request.command),
        ));
        let start = Instant::now();
        let reply = self.broker.execute(map, descriptor, request);
        let took = command_log::microseconds(start.elapsed());
        if let Ok(WorkerReply::Report(report)) = &reply {
            trace_steps(client, map, &report.trace);
        }
        trace!(pr_helper_worker_end(
            client.connection_id(),
            &map.to_string(),
            &reply
                .as_ref()
                .map_or_else(|error| error_chain(error), |_| "reported".to_owned()),
            took,
        ));
        reply
    }

    /// Logs that a worker sent no reply, and returns the result for the client.
    fn worker_failed(&self, client: &Peer, map: DeviceId, error: &WorkerError) -> CommandResult {
        let code = match error {
            WorkerError::Io(_) | WorkerError::NotStarted => None,
            WorkerError::Timeout(_) => Some(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING),
            WorkerError::BrokerGone | WorkerError::Exited | WorkerError::InvalidReply => {
                Some(AdditionalSense::IO_PROCESS_TERMINATED)
            }
        };
        let result = match code {
            None => CommandResult::from_status(Status::BUSY),
            Some(code) => CommandResult::check_condition(SenseKey::AbortedCommand, code),
        };
        let warning = format!(
            "command failed with {}: {}",
            result.status,
            error_chain(error)
        );
        self.warn(client, map, warning.clone(), &warning);
        result
    }

    fn warn_all(&self, client: &Peer, map: DeviceId, warnings: Vec<String>) {
        for warning in warnings {
            self.warn(client, map, kind_of(&warning), &warning);
        }
    }

    fn warn(&self, client: &Peer, map: DeviceId, kind: String, warning: &str) {
        let key = (client.process_key(), map, kind);
        if let Some(suppressed) = self.warnings.should_log(key) {
            log::warn!("{client}: multipath map {map}: {warning}{suppressed}");
        }
    }
}

/// Returns the type of the reservation that a command can create, if only the holder has access
/// under it.
fn exclusive_type(command: &Command) -> Option<ReservationType> {
    use OutServiceAction::{Preempt, PreemptAndAbort, ReplaceLostReservation, Reserve};
    let Ok(Cdb::Out(command)) = Cdb::decode(command.cdb()) else {
        return None;
    };
    let is_reserving = matches!(
        command.service_action,
        Reserve | Preempt | PreemptAndAbort | ReplaceLostReservation
    );
    let reservation_type = command.scope_type.reservation_type();
    reservation_type.filter(|kind| is_reserving && !kind.allows_registrants())
}

/// Emits the trace events of these steps.
fn trace_steps(client: &Peer, map: DeviceId, lines: &[String]) {
    for line in lines {
        worker_trace::emit(line, client.connection_id(), &map.to_string());
    }
}

/// Returns the kind of a warning: its words without keys. A guest chooses the keys, and must not be
/// able to fill the log with warnings of new kinds.
fn kind_of(warning: &str) -> String {
    let words = warning.split(' ').filter(|word| !word.contains("0x"));
    words.collect::<Vec<_>>().join(" ")
}

/// Returns whether a worker could not complete a command.
fn is_aborted(result: &CommandResult) -> bool {
    let sense = result.decode_sense();
    sense.is_some_and(|sense| sense.key == SenseKey::AbortedCommand)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::wire::pad_cdb;

    /// Returns whether a command with this service action and type has an exclusive type.
    fn is_exclusive(opcode: u8, action: u8, reservation_type: u8) -> bool {
        let cdb = pad_cdb(&[opcode, action, reservation_type, 0, 0, 0, 0, 0, 24, 0]);
        exclusive_type(&Command::new(cdb).unwrap()).is_some()
    }

    #[test]
    fn commands_that_reserve_have_exclusive_types() {
        // RESERVE, PREEMPT, PREEMPT AND ABORT, REPLACE LOST RESERVATION.
        for action in [1, 4, 5, 8] {
            for kind in 0..=0xf {
                let expected = matches!(kind, 1 | 3);
                assert_eq!(
                    is_exclusive(0x5f, action, kind),
                    expected,
                    "{action} {kind}"
                );
            }
        }
        // RELEASE must remain possible, and the others ignore the type.
        for action in [0, 2, 3, 6, 7] {
            assert!(!is_exclusive(0x5f, action, 1), "{action}");
        }
        // READ RESERVATION.
        assert!(!is_exclusive(0x5e, 1, 1));
    }

    #[test]
    fn each_reason_is_logged_once_a_minute() {
        let limit = KeyedRateLimit::new();
        let is_logged = |reason: &str| {
            let warning = format!("registration rejected: multipathd {reason}");
            limit.should_log(kind_of(&warning)).is_some()
        };
        let reasons = [
            "does not answer: connection refused; start it",
            "has no reservation_key for the map; set 'reservation_key file'",
            "has the fixed reservation_key 0x1 for the map; set 'reservation_key file'",
        ];
        assert!(reasons.iter().all(|reason| is_logged(reason)));
        assert!(!reasons.iter().any(|reason| is_logged(reason)));
    }

    #[test]
    fn warnings_of_one_kind_differ_in_keys_only() {
        let kinds = [
            "registration rejected: multipathd does not answer",
            "registration rejected: multipathd has no reservation_key for the map",
            "path sdb not re-registered with key 0x1",
            "path sdb not re-registered with key 0xffff",
        ]
        .map(kind_of);
        assert_ne!(kinds[0], kinds[1]);
        assert_eq!(kinds[2], kinds[3]);
    }
}
