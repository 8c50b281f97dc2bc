//! Logical units in software, and paths to them that can be taken away.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::{CDB_SIZE, SENSE_SIZE, pad_cdb};
use qemu_pr_helper::command::executor::CommandResult;
use qemu_pr_helper::command::sg::TransportOutcome;
use qemu_pr_helper::multipath::pr_out::{Done, Keeper, KeeperError, Kept, Path, execute};
use scsi_pr::{
    AdditionalSense, BasicParameterList, OutServiceAction, PersistentReserveOut, RegisterAndMove,
    ReservationType, ScopeType, Sense, SenseKey, Status, TransportId,
};
use soft_lun::{LogicalUnit, Nexus, NexusId, Response};

/// A logical unit that several paths lead to.
pub(crate) type Shared = Rc<RefCell<LogicalUnit>>;

/// What a path is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// Commands do not get there.
    Down,
    /// Busy, for good.
    Busy,
    /// One command does not get there; then it is up.
    Misses,
    /// One command is done, and the answer does not get back; then it is up.
    Mute,
    /// Has come back and is not registered yet, which LIO says like this to RESERVE and RELEASE.
    NotRegistered,
    /// Answers RELEASE so, and has not done it.
    Releases(Status),
}

pub(crate) struct TestPath {
    pub(crate) unit: Shared,
    pub(crate) nexus: NexusId,
    pub(crate) state: State,
    pub(crate) sent: usize,
    meanwhile: Meanwhile,
}

/// What somebody else does while a command of A is in progress.
struct Interruption {
    /// B; or multipathd, by one of A's paths.
    by: NexusId,
    /// How many commands to paths there still are before it.
    before: usize,
    command: Out,
    /// What the answer was.
    status: Option<Status>,
}

type Meanwhile = Rc<RefCell<Option<Interruption>>>;

impl fmt::Display for TestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.nexus)
    }
}

impl Path for TestPath {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        self.sent += 1;
        if let Some(due) = self.meanwhile.borrow_mut().as_mut() {
            if due.before == 1 {
                due.status = Some(single(&self.unit, due.by, &due.command).status);
            }
            due.before = due.before.saturating_sub(1);
        }
        match self.state {
            State::Down => TransportOutcome::NotDelivered(gone()),
            State::Misses => {
                self.state = State::Up;
                TransportOutcome::NotDelivered(gone())
            }
            State::Mute => {
                self.state = State::Up;
                ask(&self.unit, self.nexus, cdb, data);
                TransportOutcome::Unknown(gone())
            }
            State::Busy => TransportOutcome::Completed(CommandResult::from_status(Status::BUSY)),
            State::NotRegistered if matches!(cdb[..2], [0x5f, 1 | 2]) => {
                TransportOutcome::Completed(CommandResult::check_condition(
                    SenseKey::NotReady,
                    AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
                ))
            }
            State::Releases(status) if cdb[..2] == [0x5f, 2] => {
                TransportOutcome::Completed(CommandResult::from_status(status))
            }
            State::Up | State::NotRegistered | State::Releases(_) => {
                TransportOutcome::Completed(ask(&self.unit, self.nexus, cdb, data))
            }
        }
    }

    fn pause(&self) {}
}

fn gone() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::I_T_NEXUS_LOSS_OCCURRED,
    )
}

pub(crate) fn ask(unit: &Shared, nexus: NexusId, cdb: &[u8], data: Data<'_>) -> CommandResult {
    match data {
        Data::FromDevice(room) => {
            let answer = unit.borrow_mut().execute(nexus, cdb, &[]);
            for (to, from) in room.iter_mut().zip(&answer.data) {
                *to = *from;
            }
            outcome(&answer)
        }
        Data::ToDevice(list) => outcome(&unit.borrow_mut().execute(nexus, cdb, list)),
        Data::None => outcome(&unit.borrow_mut().execute(nexus, cdb, &[])),
    }
}

pub(crate) fn outcome(answer: &Response) -> CommandResult {
    let mut outcome = match &answer.sense {
        Some(sense) => CommandResult::with_sense(answer.status, sense),
        None => CommandResult::from_status(answer.status),
    };
    outcome.data_len = answer.data.len();
    outcome
}

/// A multipathd that remembers, or will not.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) kept: Option<Kept>,
    pub(crate) refuses: bool,
    pub(crate) is_away: bool,
    pub(crate) holds: bool,
}

impl Memory {
    fn answer<T>(&self, is_refused: bool, value: T) -> Result<T, KeeperError> {
        match self.is_away || is_refused {
            true => Err(KeeperError("no".to_owned())),
            false => Ok(value),
        }
    }
}

impl Keeper for Memory {
    fn kept(&mut self) -> Result<Option<Kept>, KeeperError> {
        self.answer(false, self.kept)
    }

    fn keep(&mut self, kept: Kept) -> Result<(), KeeperError> {
        self.answer(self.refuses, ())?;
        self.kept = Some(kept);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), KeeperError> {
        self.answer(self.kept.is_none(), ())
    }

    fn forget(&mut self) -> Result<(), KeeperError> {
        self.answer(false, ())?;
        self.kept = None;
        Ok(())
    }

    fn hold(&mut self, is_held: bool) {
        self.holds = is_held;
    }
}

/// The initiator ports: A's first and second, and B's.
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

/// A unit with two paths of A, and one of B.
pub(crate) struct Map {
    pub(crate) unit: Shared,
    pub(crate) paths: Vec<TestPath>,
    pub(crate) b: NexusId,
    pub(crate) memory: Memory,
    meanwhile: Meanwhile,
}

impl Map {
    /// The second path leads to this target port.
    pub(crate) fn new(second: u16) -> Self {
        let unit = unit(&[(A1, 1), (A2, second), (B, 1)]);
        let ids = ids(&unit);
        let meanwhile = Meanwhile::default();
        let path = |nexus| TestPath {
            unit: Rc::clone(&unit),
            nexus,
            state: State::Up,
            sent: 0,
            meanwhile: Rc::clone(&meanwhile),
        };
        Map {
            paths: vec![path(ids[0]), path(ids[1])],
            b: ids[2],
            memory: Memory::default(),
            meanwhile: Rc::clone(&meanwhile),
            unit,
        }
    }

    pub(crate) fn execute(&mut self, command: &Out) -> Done {
        let (cdb, list) = command.encode();
        execute(&mut self.paths, &mut self.memory, &cdb, &list)
    }

    pub(crate) fn status(&mut self, command: &Out) -> Status {
        self.execute(command).outcome.status
    }

    /// As `execute`, with a command of B before the command to a path with this number, from 1, and its answer.
    pub(crate) fn execute_while(
        &mut self,
        command: &Out,
        number: usize,
        other: Out,
    ) -> (Done, Option<Status>) {
        self.execute_while_by(self.b, command, number, other)
    }

    /// The same with a command that is not B's.
    pub(crate) fn execute_while_by(
        &mut self,
        by: NexusId,
        command: &Out,
        number: usize,
        other: Out,
    ) -> (Done, Option<Status>) {
        *self.meanwhile.borrow_mut() = Some(Interruption {
            by,
            before: number,
            command: other,
            status: None,
        });
        let done = self.execute(command);
        let interruption = self.meanwhile.borrow_mut().take();
        (done, interruption.and_then(|done| done.status))
    }

    /// B's.
    pub(crate) fn other(&self, command: &Out) -> CommandResult {
        single(&self.unit, self.b, command)
    }

    /// Takes a path away, or gives it back. multipathd registers it then, if somebody still has the key.
    pub(crate) fn toggle(&mut self, path: usize) {
        let path = &mut self.paths[path];
        if path.state == State::Up {
            path.state = State::Down;
            return;
        }
        path.state = State::Up;
        let mut unit = self.unit.borrow_mut();
        let Some(kept) = self.memory.kept else { return };
        if unit.registrations().iter().any(|one| one.key == kept.key) {
            let register = Out::new(
                OutServiceAction::RegisterAndIgnoreExistingKey,
                0,
                kept.key.get(),
            );
            let (cdb, list) = register.encode();
            while unit.execute(path.nexus, &cdb, &list).status != Status::GOOD {}
        }
    }

    /// Whether a path of A that has this key holds the reservation, and is not one of all registrants.
    pub(crate) fn is_holder(&self, key: u64) -> bool {
        let unit = self.unit.borrow();
        let holder = unit.reservation().and_then(|held| held.holder());
        holder.is_some_and(|holder| {
            holder != self.b && unit.key_of(holder).is_some_and(|held| held.get() == key)
        })
    }

    /// The keys of A's paths.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let unit = self.unit.borrow();
        self.paths
            .iter()
            .map(|path| unit.key_of(path.nexus).unwrap_or_default().get())
            .collect()
    }

    pub(crate) fn kept(&self) -> Option<u64> {
        self.memory.kept.map(|kept| kept.key.get())
    }

    pub(crate) fn reserved(&self) -> Option<ReservationType> {
        self.unit.borrow().reservation().map(|held| held.kind())
    }
}

pub(crate) fn single(unit: &Shared, nexus: NexusId, command: &Out) -> CommandResult {
    let (cdb, list) = command.encode();
    ask(unit, nexus, &cdb, Data::ToDevice(&list))
}

/// A PERSISTENT RESERVE OUT command.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) action: OutServiceAction,
    pub(crate) kind: u8,
    pub(crate) key: u64,
    pub(crate) action_key: u64,
    pub(crate) aptpl: bool,
    pub(crate) all_tg_pt: bool,
    /// Initiator ports that are named with it; REGISTER AND MOVE names one.
    pub(crate) named: Option<u64>,
    pub(crate) unregister: bool,
    /// One that is wrong is not the list's.
    pub(crate) length: Option<u8>,
}

impl Out {
    pub(crate) const fn new(action: OutServiceAction, key: u64, action_key: u64) -> Self {
        Out {
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

    pub(crate) const fn of(mut self, kind: ReservationType) -> Self {
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

pub(crate) fn show(outcome: &CommandResult) -> String {
    match Sense::decode(&outcome.sense) {
        Ok(sense) if outcome.sense != [0; SENSE_SIZE] => format!("{} {sense}", outcome.status),
        _ => outcome.status.to_string(),
    }
}
