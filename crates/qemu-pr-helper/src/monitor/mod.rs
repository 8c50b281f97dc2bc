// SPDX-License-Identifier: MIT OR Apache-2.0

//! Observation of clients, disks and commands, for the operator.
//!
//! The threads that execute commands record what they do in [`Monitor`]. Nothing here delays a
//! command: the locks are held for a few instructions, and another thread writes the journal.
//!
//! | module | content |
//! |---|---|
//! | `statistics` | counts and durations of the commands of one client |
//! | `change` | the change that a command requests |
//! | `entry` | a record before it is text |
//! | `registrations` | registrations and reservations that clients of this helper have made |
//! | `journal` | records of changes, conflicts and unit attentions |
//! | `system_journal` | the native protocol of the systemd journal |
//! | `document` | the state document |
//! | `state_socket` | the socket that the state document is written to |

mod change;
pub(crate) mod document;
mod entry;
pub(crate) mod journal;
mod registrations;
pub(crate) mod state_socket;
mod statistics;
mod system_journal;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use helper_state::{Event, Limits, Process};
use pr_helper_protocol::{Direction, Request};
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

use crate::command::executor::CommandResult;
use crate::command::peer::{Peer, ProcessKey};
use crate::command::request_device::RequestDevice;
use crate::command::timestamp::Timestamp;
use crate::logging::KeyedRateLimit;
use crate::names::Names;
use crate::names::disk_name::DiskName;
use change::Change;
use entry::Entry as JournalEntry;
use journal::Journal;
use registrations::{DiskKey, Owner, Registrations, nexus};
use statistics::{ClientStatistics, CommandKey, ResultKind, Totals};

/// Time that a state document, or with `--same-lun=refuse` a registration, waits for a name.
const NAME_TIMEOUT: Duration = Duration::from_millis(100);

/// Value of `--same-lun`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SameLun {
    #[default]
    Warn,
    Refuse,
    Allow,
}

impl fmt::Display for SameLun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warn => "warn",
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        })
    }
}

/// Record of what the helper does, for the operator.
#[derive(Debug)]
pub struct Monitor {
    /// Process ID of the helper.
    pid: u32,
    started: SystemTime,
    clients: Mutex<BTreeMap<u64, Arc<ClientActivity>>>,
    /// Number of connections of each process.
    processes: Mutex<BTreeMap<ProcessKey, usize>>,
    /// Statistics of clients that have disconnected.
    totals: Mutex<Totals>,
    registrations: Mutex<Registrations>,
    journal: Journal,
    /// Set at the start.
    names: OnceLock<Arc<Names>>,
    same_lun: SameLun,
    same_lun_warning: KeyedRateLimit<ProcessKey>,
    /// Counts of events.
    pub(crate) counters: Counters,
}

/// Counts of events since the helper was started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) rejected_connections: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) busy_devices: Counter,
    pub(crate) busy_threads: Counter,
    pub(crate) request_timeouts: Counter,
    refused_registrations: Counter,
}

/// A count that only increases.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    fn limits(&self) -> Limits {
        Limits {
            rejected_connections: self.rejected_connections.get(),
            accept_pauses: self.accept_pauses.get(),
            busy_devices: self.busy_devices.get(),
            busy_threads: self.busy_threads.get(),
            request_timeouts: self.request_timeouts.get(),
            refused_registrations: self.refused_registrations.get(),
        }
    }
}

/// Activity of one client. The client counts as connected until this is dropped.
#[derive(Debug)]
pub(crate) struct ClientActivity {
    peer: Peer,
    connected: SystemTime,
    statistics: Mutex<ClientStatistics>,
}

/// A connected client, which [`Monitor`] forgets when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectedClient {
    activity: Arc<ClientActivity>,
    monitor: Arc<Monitor>,
}

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.monitor.disconnected(&self.activity);
    }
}

/// A command that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObservedCommand {
    key: CommandKey,
    start: Timestamp,
}

impl Default for Monitor {
    /// Creates a monitor with a journal in memory.
    fn default() -> Self {
        Self::new(Journal::in_memory(), SameLun::Warn)
    }
}

impl Monitor {
    /// Creates a monitor that writes its journal to `journal`.
    pub(crate) fn new(journal: Journal, same_lun: SameLun) -> Self {
        Self {
            pid: std::process::id(),
            started: SystemTime::now(),
            clients: Mutex::default(),
            processes: Mutex::default(),
            totals: Mutex::default(),
            registrations: Mutex::default(),
            journal,
            names: OnceLock::new(),
            same_lun,
            same_lun_warning: KeyedRateLimit::new(),
            counters: Counters::default(),
        }
    }

    /// Starts the thread that writes the journal, with the names of disks.
    pub(crate) fn start(&self, names: Option<Arc<Names>>) -> io::Result<()> {
        if let Some(names) = &names {
            // This is the only call.
            let _ = self.names.set(Arc::clone(names));
        }
        self.journal.start(names)
    }

    /// Returns the names of a disk, and waits a moment for them. A soft LUN has none.
    fn disk_name(&self, disk: &DiskKey, timeout: Duration) -> Option<Arc<DiskName>> {
        match disk {
            DiskKey::Device(id) => self.names.get()?.disk(*id, timeout),
            DiskKey::SoftLun(_) => None,
        }
    }

    /// Records that a client has connected.
    pub(crate) fn connected(self: &Arc<Self>, peer: &Peer) -> ConnectedClient {
        let activity = Arc::new(ClientActivity {
            peer: peer.clone(),
            connected: SystemTime::now(),
            statistics: Mutex::default(),
        });
        lock(&self.clients).insert(peer.connection_id(), Arc::clone(&activity));
        *lock(&self.processes).entry(peer.process_key()).or_default() += 1;
        ConnectedClient {
            activity,
            monitor: Arc::clone(self),
        }
    }

    fn disconnected(&self, activity: &ClientActivity) {
        let name = process(&activity.peer).name;
        lock(&self.clients).remove(&activity.peer.connection_id());
        if let Entry::Occupied(mut connections) =
            lock(&self.processes).entry(activity.peer.process_key())
        {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
        let statistics = std::mem::take(&mut *lock(&activity.statistics));
        lock(&self.totals).add(&name, &statistics);
    }

    /// Returns whether the client's virtual machine may register with the disk. The answer is no if
    /// another one of this host has, and `--same-lun=refuse` is given.
    pub(crate) fn may_register(
        &self,
        client: &ConnectedClient,
        request: &Request,
        device: &RequestDevice,
    ) -> bool {
        if self.same_lun != SameLun::Refuse || !registers(request) {
            return true;
        }
        let peer = &client.activity.peer;
        let disk = DiskKey::new(request, device);
        if let Some(names) = self.names.get() {
            let _ = names.process(peer, NAME_TIMEOUT);
        }
        let owner = owner(peer, request, &disk);
        let name = self.disk_name(&disk, NAME_TIMEOUT);
        let wwn = name.as_ref().and_then(|name| name.wwn.as_deref());
        let other =
            lock(&self.registrations).other_owner(&disk, wwn, &owner, |key| self.is_running(key));
        let Some(other) = other else {
            return true;
        };
        let other = process(&other).name;
        self.counters.refused_registrations.increment();
        if let Some(suppressed) = self.same_lun_warning.should_log(peer.process_key()) {
            log::warn!(
                "{peer}: registration of {} refused: {other} of this host is registered with the \
                 same disk, and the disk cannot tell them apart (--same-lun=refuse){suppressed}",
                disk.device()
            );
        }
        false
    }

    /// Returns whether a process is connected.
    fn is_running(&self, process: ProcessKey) -> bool {
        lock(&self.processes).contains_key(&process)
    }

    /// Records the start of a command.
    pub(crate) fn begin(
        &self,
        client: &ConnectedClient,
        request: &Request,
        device: &RequestDevice,
    ) -> ObservedCommand {
        let key = CommandKey::new(&request.command, device.id);
        let start = Timestamp::now();
        lock(&client.activity.statistics).current = Some((key, start));
        ObservedCommand { key, start }
    }

    /// Records the end of a command.
    pub(crate) fn end(
        &self,
        client: &ConnectedClient,
        command: ObservedCommand,
        request: &Request,
        device: &RequestDevice,
        result: &CommandResult,
    ) {
        let took_us = command.start.elapsed_us();
        let outcome = Outcome::new(result);
        let is_new = lock(&client.activity.statistics).end(command.key, outcome.kind(), took_us);
        if is_new && let Some(names) = self.names.get() {
            // The names are known then when a registration needs them.
            let _ = names.cached_disk(device.id);
        }
        let is_change = request.command.direction() == Direction::Out;
        if is_change || result.status != Status::GOOD {
            self.record(&client.activity.peer, request, device, outcome, took_us);
        }
    }

    /// Adds a record to the journal if the command is of interest, and notes what it changed.
    fn record(
        &self,
        peer: &Peer,
        request: &Request,
        device: &RequestDevice,
        outcome: Outcome,
        took_us: u64,
    ) {
        let Some(event) = event(request, outcome) else {
            return;
        };
        let disk = DiskKey::new(request, device);
        let owner = owner(peer, request, &disk);
        let change = Change::new(request);
        let names = self.names.get();
        let name = names.and_then(|names| names.cached_disk(device.id));
        let wwn = name.as_ref().and_then(|name| name.wwn.as_deref());
        let is_running = |key| self.is_running(key);
        let mut registrations = lock(&self.registrations);
        let before = registrations.known(&disk);
        let previous_key = registrations.key_of(&disk, &owner);
        let victim = registrations.owner_of(&disk, wwn, change.victim(), &owner);
        let mut same_lun = None;
        match event {
            Event::Change if outcome.status == Status::GOOD => {
                if change.registers() {
                    same_lun = registrations.other_owner(&disk, wwn, &owner, is_running);
                }
                registrations.apply(&disk, &owner, &change, is_running);
                registrations.apply_to_other_devices(&disk, wwn, &owner, &change);
                registrations.set_wwn(&disk, wwn);
            }
            Event::Attention => registrations.apply_attention(&disk, &owner, outcome.sense),
            _ => {}
        }
        let after = registrations.known(&disk);
        drop(registrations);
        let entry = JournalEntry {
            sequence: 0,
            time: SystemTime::now(),
            event,
            client: peer.clone(),
            device: device.id,
            disk,
            command: request.command,
            change,
            outcome,
            duration_us: took_us,
            previous_key,
            before,
            after,
            other: victim,
        };
        let warning = same_lun.filter(|_| self.same_lun == SameLun::Warn);
        let warning = warning.map(|other| {
            self.warn_same_lun(peer, &entry.disk, &process(&other).name);
            JournalEntry {
                event: Event::SameLun,
                other: Some(other),
                ..entry.clone()
            }
        });
        self.journal.add(entry);
        if let Some(warning) = warning {
            self.journal.add(warning);
        }
    }

    fn warn_same_lun(&self, peer: &Peer, disk: &DiskKey, other: &str) {
        if let Some(suppressed) = self.same_lun_warning.should_log(peer.process_key()) {
            log::warn!(
                "{peer}: registered with {}, as {other} of this host is: the disk cannot tell them \
                 apart, so their reservations do not protect them from each other; run the nodes \
                 of a cluster on different hosts (--same-lun){suppressed}",
                disk.device()
            );
        }
    }
}

/// Returns the sense for a registration that `--same-lun=refuse` refuses (SPC-4, 5.12.7).
pub(crate) fn refused_registration() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::IllegalRequest,
        AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES,
    )
}

/// Status and decoded sense of a command.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    status: Status,
    sense: Option<Sense>,
}

impl Outcome {
    fn new(result: &CommandResult) -> Self {
        Self {
            status: result.status,
            sense: result.decode_sense(),
        }
    }

    fn kind(self) -> ResultKind {
        ResultKind::new(self.status, self.sense.map(|sense| sense.key))
    }
}

/// Returns the event that a command is recorded as, if it is.
fn event(request: &Request, outcome: Outcome) -> Option<Event> {
    match outcome.status {
        Status::RESERVATION_CONFLICT => Some(Event::Conflict),
        _ if outcome.sense.is_some_and(|sense| {
            sense.key == SenseKey::UnitAttention && registrations::is_change_by_other(sense.code)
        }) =>
        {
            Some(Event::Attention)
        }
        _ if request.command.direction() == Direction::Out => Some(Event::Change),
        _ => None,
    }
}

/// Returns whether a command registers a key.
fn registers(request: &Request) -> bool {
    let change = Change::new(request);
    change.registers()
}

fn owner(peer: &Peer, request: &Request, disk: &DiskKey) -> Owner {
    Owner {
        nexus: nexus(request, disk),
        peer: peer.clone(),
    }
}

/// Returns what is known about the process of a client.
fn process(peer: &Peer) -> Process {
    if let Some(process) = peer.process() {
        return Process::clone(process);
    }
    Process {
        pid: peer.pid,
        uid: peer.uid,
        name: format!("pid {}", peer.pid),
        vm: None,
        unit: None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::{Command, RequestFd};
    use pr_testkit::cdb::{PrCommand, register};

    use crate::command::device::DeviceId;
    use crate::command::request_device::{FdAccess, LimitKey};

    const DISK: RequestDevice = RequestDevice {
        id: DeviceId::Block(8, 0),
        access: FdAccess::Writable,
        limit_key: Some(LimitKey::Block(8, 0)),
    };

    /// The sg node of the same disk.
    const SG_NODE: RequestDevice = RequestDevice {
        id: DeviceId::Character(21, 0),
        ..DISK
    };

    fn monitor(same_lun: SameLun) -> Arc<Monitor> {
        Arc::new(Monitor::new(Journal::in_memory(), same_lun))
    }

    fn request(command: &PrCommand) -> Request {
        Request {
            command: Command::new(command.cdb).unwrap(),
            fd: RequestFd::Lost,
            parameters: command.parameter_list.clone(),
        }
    }

    /// Executes a command with success, if the client may send it. Returns whether it may.
    fn execute(client: &ConnectedClient, command: &PrCommand, device: &RequestDevice) -> bool {
        let (monitor, request) = (&client.monitor, request(command));
        let observed = monitor.begin(client, &request, device);
        let may_register = monitor.may_register(client, &request, device);
        let result = match may_register {
            true => CommandResult::from_status(Status::GOOD),
            false => refused_registration(),
        };
        monitor.end(client, observed, &request, device, &result);
        may_register
    }

    fn events(monitor: &Monitor) -> Vec<Event> {
        let records = monitor.journal.to_state(|_| None).records;
        records.iter().map(|record| record.event).collect()
    }

    #[test]
    fn second_machine_is_refused_while_the_first_is_connected() {
        let monitor = monitor(SameLun::Refuse);
        let [one, two] = [(1, 11), (2, 22)].map(|(id, pid)| Peer::of_process(id, pid));
        let (one, two) = (monitor.connected(&one), monitor.connected(&two));
        assert!(execute(&one, &register(0, 1), &DISK));
        assert!(execute(&one, &register(1, 2), &SG_NODE));
        assert!(!execute(&two, &register(0, 3), &SG_NODE));
        // Only registrations are refused.
        assert!(execute(&two, &register(3, 0), &SG_NODE));
        assert!(execute(&one, &register(0, 1), &DISK));
        assert!(!execute(&two, &register(0, 3), &DISK));
        drop(one);
        assert!(execute(&two, &register(0, 3), &DISK));
        assert_eq!(monitor.counters.refused_registrations.get(), 2);
        assert!(!events(&monitor).contains(&Event::SameLun));
    }

    #[test]
    fn second_machine_is_recorded() {
        for (same_lun, expected) in [(SameLun::Warn, 1), (SameLun::Allow, 0)] {
            let monitor = monitor(same_lun);
            let [one, two] = [(1, 11), (2, 22)].map(|(id, pid)| Peer::of_process(id, pid));
            let (one, two) = (monitor.connected(&one), monitor.connected(&two));
            assert!(execute(&one, &register(0, 1), &DISK));
            assert!(execute(&two, &register(0, 2), &SG_NODE));
            let events = events(&monitor);
            let same_lun = events.iter().filter(|event| **event == Event::SameLun);
            assert_eq!(same_lun.count(), expected);
        }
    }
}
