// SPDX-License-Identifier: MIT OR Apache-2.0

//! Logical units in software, and paths to them that can fail.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use helper_state::PathRegistration;
use linux_util::sg_io::Data;
use pr_helper_protocol::wire::{CDB_SIZE, SENSE_SIZE, pad_cdb};
use qemu_pr_helper::command::executor::CommandResult;
use qemu_pr_helper::command::sg::TransportOutcome;
use qemu_pr_helper::multipath::pr_out::{PrOutResult, PrPath, check, cleanup, execute, forget};
use scsi_pr::{
    AdditionalSense, BasicParameterList, OutServiceAction, PersistentReserveOut, RegisterAndMove,
    ReservationType, ScopeType, Sense, SenseKey, Status, TransportId,
};
use soft_lun::{LogicalUnit, Nexus, NexusId, Response};

use crate::key_store::{PathsInUse, TestKeyStore, Version};

/// Logical unit that several paths lead to.
pub(crate) type Shared = Rc<RefCell<LogicalUnit>>;

/// State of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathState {
    Up,
    /// Commands are not delivered.
    Down,
    /// The path fails after this number of commands. The last one is executed, but its result is
    /// lost.
    FailsAfter(usize),
    /// All commands complete with BUSY.
    Busy,
    /// This number of commands is not delivered. Then the path is up.
    Fails(usize),
    /// PERSISTENT RESERVE OUT is not delivered.
    FailsOut,
    /// The next command is executed, but its result is lost. Then the path is up.
    LoseReply,
    /// The path has returned and is not registered yet: RESERVE and RELEASE complete as on LIO.
    NotRegistered,
    /// RELEASE completes with this status and is not executed.
    RejectRelease(Status),
}

pub(crate) struct TestPath {
    pub(crate) unit: Shared,
    pub(crate) nexus: NexusId,
    pub(crate) state: PathState,
    pub(crate) sent: usize,
    interruption: SharedInterruption,
    writer: SharedWriter,
}

/// Writes of A through all paths that the map uses, after each command to a path.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) paths: PathsInUse,
    /// True if the reservation must allow these writes.
    pub(crate) must_succeed: bool,
    /// Number of commands to paths so far.
    pub(crate) sent: usize,
    /// Writes that failed with RESERVATION CONFLICT.
    pub(crate) conflicts: Vec<String>,
}

impl Writer {
    fn write(&mut self, command: &[u8]) {
        self.sent += 1;
        if !self.must_succeed {
            return;
        }
        for (unit, nexus) in self.paths.borrow().iter() {
            if !unit.borrow().can_write(*nexus) {
                let text = format!(
                    "write through {nexus:?} after path command {} ({:02x} {:02x})",
                    self.sent, command[0], command[1]
                );
                self.conflicts.push(text);
            }
        }
    }
}

type SharedWriter = Rc<RefCell<Writer>>;

/// Command of another initiator while a command of A is in progress.
struct Interruption {
    /// B's nexus; or the nexus of one of A's paths, for a command of multipathd.
    nexus: NexusId,
    /// Number of A's command before which this one is sent, counted down to zero.
    before: usize,
    command: TestCommand,
    /// Status of the command, once it was sent.
    status: Option<Status>,
}

type SharedInterruption = Rc<RefCell<Option<Interruption>>>;

impl fmt::Display for TestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.nexus)
    }
}

impl PrPath for TestPath {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let outcome = self.deliver(cdb, data);
        self.writer.borrow_mut().write(cdb);
        outcome
    }

    fn wait_before_retry(&self) {}

    fn number(&self) -> String {
        format!("{:?}", self.nexus)
    }
}

impl TestPath {
    fn deliver(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        self.sent += 1;
        if let Some(due) = self.interruption.borrow_mut().as_mut() {
            if due.before == 1 {
                due.status = Some(execute_on_nexus(&self.unit, due.nexus, &due.command).status);
            }
            due.before = due.before.saturating_sub(1);
        }
        match self.state {
            PathState::Down => TransportOutcome::NotDelivered(nexus_loss()),
            PathState::FailsAfter(0 | 1) => {
                let is_executed = self.state == PathState::FailsAfter(1);
                self.state = PathState::Down;
                let paths = Rc::clone(&self.writer.borrow().paths);
                paths.borrow_mut().retain(|(_, nexus)| *nexus != self.nexus);
                if is_executed {
                    execute_on_unit(&self.unit, self.nexus, cdb, data);
                    return TransportOutcome::Unknown(nexus_loss());
                }
                TransportOutcome::NotDelivered(nexus_loss())
            }
            PathState::FailsAfter(left) => {
                self.state = PathState::FailsAfter(left - 1);
                TransportOutcome::Completed(execute_on_unit(&self.unit, self.nexus, cdb, data))
            }
            PathState::Fails(times) => {
                self.state = match times {
                    0 | 1 => PathState::Up,
                    _ => PathState::Fails(times - 1),
                };
                TransportOutcome::NotDelivered(nexus_loss())
            }
            PathState::FailsOut if cdb[0] == 0x5f => TransportOutcome::NotDelivered(nexus_loss()),
            PathState::LoseReply => {
                self.state = PathState::Up;
                execute_on_unit(&self.unit, self.nexus, cdb, data);
                TransportOutcome::Unknown(nexus_loss())
            }
            PathState::Busy => {
                TransportOutcome::Completed(CommandResult::from_status(Status::BUSY))
            }
            PathState::NotRegistered if matches!(cdb[..2], [0x5f, 1 | 2]) => {
                TransportOutcome::Completed(CommandResult::check_condition(
                    SenseKey::NotReady,
                    AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
                ))
            }
            PathState::RejectRelease(status) if cdb[..2] == [0x5f, 2] => {
                TransportOutcome::Completed(CommandResult::from_status(status))
            }
            PathState::Up
            | PathState::FailsOut
            | PathState::NotRegistered
            | PathState::RejectRelease(_) => {
                TransportOutcome::Completed(execute_on_unit(&self.unit, self.nexus, cdb, data))
            }
        }
    }
}

fn nexus_loss() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::I_T_NEXUS_LOSS_OCCURRED,
    )
}

fn execute_on_unit(unit: &Shared, nexus: NexusId, cdb: &[u8], data: Data<'_>) -> CommandResult {
    match data {
        Data::FromDevice(buffer) => {
            let response = unit.borrow_mut().execute(nexus, cdb, &[]);
            for (to, from) in buffer.iter_mut().zip(&response.data) {
                *to = *from;
            }
            to_result(&response)
        }
        Data::ToDevice(list) => to_result(&unit.borrow_mut().execute(nexus, cdb, list)),
        Data::None => to_result(&unit.borrow_mut().execute(nexus, cdb, &[])),
    }
}

fn to_result(response: &Response) -> CommandResult {
    let mut result = match &response.sense {
        Some(sense) => CommandResult::with_sense(response.status, sense),
        None => CommandResult::from_status(response.status),
    };
    result.data_len = response.data.len();
    result
}

/// Maximum number of unit attentions in a row: a nexus has at most four.
const MAX_UNIT_ATTENTIONS: usize = 20;

/// SAS addresses of the initiator ports: A's first and second, and B's.
pub(crate) const A1: u64 = 1;
pub(crate) const A2: u64 = 11;
pub(crate) const B: u64 = 2;

pub(crate) fn unit(nexuses: &[(u64, u16)]) -> Shared {
    let nexuses = nexuses.iter().map(|&(sas_address, port)| Nexus {
        initiator: TransportId::Sas { sas_address },
        target_port: port.into(),
    });
    Rc::new(RefCell::new(LogicalUnit::new(nexuses.collect()).unwrap()))
}

pub(crate) fn ids(unit: &Shared) -> Vec<NexusId> {
    unit.borrow().nexuses().map(|(id, _)| id).collect()
}

/// Logical unit with paths of A, and one of B.
pub(crate) struct Map {
    pub(crate) unit: Shared,
    pub(crate) paths: Vec<TestPath>,
    pub(crate) b: NexusId,
    pub(crate) key_store: TestKeyStore,
    interruption: SharedInterruption,
    pub(crate) writer: SharedWriter,
}

impl Map {
    /// Creates a map with paths to target ports 1 and `second`.
    pub(crate) fn new(second: u16) -> Self {
        Self::with_paths(&[(A1, 1), (A2, second)], Version::default())
    }

    /// Creates a map with a path for each pair of an initiator port and a target port.
    pub(crate) fn with_paths(nexuses: &[(u64, u16)], version: Version) -> Self {
        let unit = unit(&[nexuses, &[(B, 1)]].concat());
        let mut ids = ids(&unit);
        let b = ids.pop().unwrap();
        let interruption = SharedInterruption::default();
        let writer = SharedWriter::default();
        let path = |nexus| TestPath {
            unit: Rc::clone(&unit),
            nexus,
            state: PathState::Up,
            sent: 0,
            interruption: Rc::clone(&interruption),
            writer: Rc::clone(&writer),
        };
        let paths_in_use = Rc::clone(&writer.borrow().paths);
        Map {
            paths: ids.into_iter().map(path).collect(),
            b,
            key_store: TestKeyStore::new(version, paths_in_use),
            interruption: Rc::clone(&interruption),
            writer: Rc::clone(&writer),
            unit,
        }
    }

    pub(crate) fn execute(&mut self, command: &TestCommand) -> PrOutResult {
        self.update_paths_in_use();
        let (cdb, list) = command.encode();
        execute(&mut self.paths, &mut self.key_store, &cdb, &list)
    }

    /// Executes CLEANUP.
    pub(crate) fn cleanup(&mut self) -> PrOutResult {
        self.update_paths_in_use();
        cleanup(&mut self.paths, &mut self.key_store)
    }

    /// Removes the key from multipathd if no path is registered with it. Returns the removed key,
    /// or `None` also after an error.
    pub(crate) fn forget(&mut self) -> Option<u64> {
        let forgotten = forget(&mut self.paths, &mut self.key_store);
        forgotten.ok().flatten().map(|key| key.get())
    }

    /// Checks the second path and further ones; `None` if no registration has multipathd's key.
    pub(crate) fn check_others(&mut self) -> Option<Vec<PathRegistration>> {
        check(&mut self.paths[1..], &mut self.key_store).unwrap()
    }

    fn update_paths_in_use(&self) {
        let is_up = |state| matches!(state, PathState::Up | PathState::FailsAfter(_));
        let up = self.paths.iter().filter(|path| is_up(path.state));
        let up = up.map(|path| (Rc::clone(&path.unit), path.nexus)).collect();
        *self.writer.borrow().paths.borrow_mut() = up;
    }

    pub(crate) fn status(&mut self, command: &TestCommand) -> Status {
        self.execute(command).result.status
    }

    /// Executes a command, and `other` as B before the path command with this number, counted from
    /// 1. Returns the status of `other`, if it was sent.
    pub(crate) fn execute_interrupted(
        &mut self,
        command: &TestCommand,
        number: usize,
        other: TestCommand,
    ) -> (PrOutResult, Option<Status>) {
        self.execute_interrupted_by(self.b, command, number, other)
    }

    /// Executes a command as [`Map::execute_interrupted`], and `other` on `nexus`.
    pub(crate) fn execute_interrupted_by(
        &mut self,
        nexus: NexusId,
        command: &TestCommand,
        number: usize,
        other: TestCommand,
    ) -> (PrOutResult, Option<Status>) {
        *self.interruption.borrow_mut() = Some(Interruption {
            nexus,
            before: number,
            command: other,
            status: None,
        });
        let done = self.execute(command);
        let interruption = self.interruption.borrow_mut().take();
        (done, interruption.and_then(|done| done.status))
    }

    /// Executes a command as B.
    pub(crate) fn execute_b(&self, command: &TestCommand) -> CommandResult {
        execute_on_nexus(&self.unit, self.b, command)
    }

    /// Takes a path down, or up again. multipathd handles a path that returns.
    pub(crate) fn toggle(&mut self, path: usize) {
        let path = &mut self.paths[path];
        if path.state == PathState::Up {
            path.state = PathState::Down;
            return;
        }
        path.state = PathState::Up;
        self.key_store.path_returned(&self.unit, path.nexus);
    }

    /// Returns whether a path of A with this key is the holder. Always false for the types that
    /// make all registrants holders.
    pub(crate) fn is_holder(&self, key: u64) -> bool {
        let unit = self.unit.borrow();
        let holder = unit.reservation().and_then(|held| held.holder());
        holder.is_some_and(|holder| {
            holder != self.b && unit.key(holder).is_some_and(|held| held.get() == key)
        })
    }

    /// Returns the keys of A's paths; zero stands for no registration.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let unit = self.unit.borrow();
        self.paths
            .iter()
            .map(|path| unit.key(path.nexus).unwrap_or_default().get())
            .collect()
    }

    pub(crate) fn stored_key(&self) -> Option<u64> {
        self.key_store
            .registered_key()
            .map(|stored| stored.key.get())
    }

    pub(crate) fn reserved(&self) -> Option<ReservationType> {
        self.unit.borrow().reservation().map(|held| held.kind())
    }
}

pub(crate) fn execute_on_nexus(
    unit: &Shared,
    nexus: NexusId,
    command: &TestCommand,
) -> CommandResult {
    let (cdb, list) = command.encode();
    execute_on_unit(unit, nexus, &cdb, Data::ToDevice(&list))
}

/// Repeats a command, as a guest does, while it reports a unit attention or is aborted.
pub(crate) fn without_attentions(mut execute: impl FnMut() -> CommandResult) -> CommandResult {
    for _ in 0..MAX_UNIT_ATTENTIONS {
        let result = execute();
        let key = result.decode_sense().map(|sense| sense.key);
        if !matches!(
            key,
            Some(SenseKey::UnitAttention | SenseKey::AbortedCommand)
        ) {
            return result;
        }
    }
    execute()
}

/// PERSISTENT RESERVE OUT command.
#[derive(Clone, Debug)]
pub(crate) struct TestCommand {
    pub(crate) action: OutServiceAction,
    pub(crate) kind: u8,
    pub(crate) key: u64,
    pub(crate) action_key: u64,
    pub(crate) aptpl: bool,
    pub(crate) all_tg_pt: bool,
    /// Initiator port of `SPEC_I_PT`, or the destination of REGISTER AND MOVE.
    pub(crate) named: Option<u64>,
    pub(crate) unregister: bool,
    /// Length of the parameter list in bytes, if it differs from the encoded one.
    pub(crate) length: Option<u8>,
}

impl TestCommand {
    pub(crate) const fn new(action: OutServiceAction, key: u64, action_key: u64) -> Self {
        TestCommand {
            action,
            kind: 0,
            key,
            action_key,
            aptpl: false,
            all_tg_pt: false,
            named: None,
            unregister: false,
            length: None,
        }
    }

    pub(crate) const fn with_type(mut self, kind: ReservationType) -> Self {
        self.kind = kind.code();
        self
    }

    pub(crate) fn encode(&self) -> ([u8; CDB_SIZE], Vec<u8>) {
        let reservation_key = self.key.into();
        let service_action_reservation_key = self.action_key.into();
        let id = |sas_address| TransportId::Sas { sas_address };
        let mut list = match self.action {
            OutServiceAction::RegisterAndMove => RegisterAndMove {
                reservation_key,
                service_action_reservation_key,
                unregister: self.unregister,
                aptpl: self.aptpl,
                relative_target_port: 1.into(),
                transport_id: id(self.named.unwrap_or(B)),
            }
            .encode(),
            _ => BasicParameterList {
                reservation_key,
                service_action_reservation_key,
                spec_i_pt: self.named.map(|named| vec![id(named)]),
                all_tg_pt: self.all_tg_pt,
                aptpl: self.aptpl,
            }
            .encode(),
        };
        if let Some(length) = self.length {
            list.resize(length.into(), 0);
        }
        let cdb = PersistentReserveOut {
            service_action: self.action,
            scope_type: ScopeType(self.kind),
            parameter_list_length: list.len().try_into().unwrap(),
            control: 0,
        };
        (pad_cdb(&cdb.encode()), list)
    }
}

pub(crate) fn format_result(result: &CommandResult) -> String {
    match Sense::decode(&result.sense) {
        Ok(sense) if result.sense != [0; SENSE_SIZE] => format!("{} {sense}", result.status),
        _ => result.status.to_string(),
    }
}
