//! A command over several paths has the effect and the answer that it has on one.
//!
//! Two logical units in software get the same commands of two initiators, A and B. On one, A has one path;
//! on the other, two.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]
#![expect(clippy::indexing_slicing, reason = "it is a test's own data")]

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use linux_sys::sg::Data;
use pr_socket::wire::{CDB_SIZE, SENSE_SIZE, padded};
use proptest::collection::vec;
use proptest::prelude::*;
use qemu_pr_helper::backend::multipath::spread::{Done, Keeper, KeeperError, Kept, Path, execute};
use qemu_pr_helper::backend::sg::Delivery;
use qemu_pr_helper::outcome::Outcome;
use scsi_pr::{
    AdditionalSense, BasicParameterList, OutServiceAction, PersistentReserveOut, RegisterAndMove,
    ReservationType, ScopeType, Sense, SenseKey, Status, TransportId,
};
use soft_lun::{Answer, LogicalUnit, Nexus, NexusId};

/// A logical unit that several paths lead to.
type Shared = Rc<RefCell<LogicalUnit>>;

/// What a path is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Commands do not get there.
    Down,
    /// Busy, for good.
    Busy,
}

struct TestPath {
    unit: Shared,
    nexus: NexusId,
    state: State,
    sent: usize,
}

impl fmt::Display for TestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.nexus)
    }
}

impl Path for TestPath {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> Delivery {
        self.sent += 1;
        match self.state {
            State::Down => Delivery::Lost(Outcome::check_condition(
                SenseKey::AbortedCommand,
                AdditionalSense::I_T_NEXUS_LOSS_OCCURRED,
            )),
            State::Busy => Delivery::Answered(Outcome::status(Status::BUSY)),
            State::Up => Delivery::Answered(ask(&self.unit, self.nexus, cdb, data)),
        }
    }
}

fn ask(unit: &Shared, nexus: NexusId, cdb: &[u8], data: Data<'_>) -> Outcome {
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

fn outcome(answer: &Answer) -> Outcome {
    let mut outcome = match &answer.sense {
        Some(sense) => Outcome::with_sense(answer.status, sense),
        None => Outcome::status(answer.status),
    };
    outcome.length = answer.data.len();
    outcome
}

/// A multipathd that remembers, or will not.
#[derive(Default)]
struct Memory {
    kept: Option<Kept>,
    refuses: bool,
    is_away: bool,
    holds: bool,
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
const A1: u64 = 1;
const A2: u64 = 11;
const B: u64 = 2;

fn unit(nexuses: &[(u64, u16)]) -> Shared {
    let nexuses = nexuses.iter().map(|&(sas_address, port)| Nexus {
        initiator: TransportId::Sas { sas_address },
        target_port: port.into(),
    });
    Rc::new(RefCell::new(LogicalUnit::new(nexuses.collect()).unwrap()))
}

fn ids(unit: &Shared) -> Vec<NexusId> {
    unit.borrow().nexuses().map(|(id, _)| id).collect()
}

/// A unit with two paths of A, and one of B.
struct Map {
    unit: Shared,
    paths: Vec<TestPath>,
    b: NexusId,
    memory: Memory,
}

impl Map {
    /// The second path leads to this target port.
    fn new(second: u16) -> Self {
        let unit = unit(&[(A1, 1), (A2, second), (B, 1)]);
        let ids = ids(&unit);
        let path = |nexus| TestPath {
            unit: Rc::clone(&unit),
            nexus,
            state: State::Up,
            sent: 0,
        };
        Map {
            paths: vec![path(ids[0]), path(ids[1])],
            b: ids[2],
            memory: Memory::default(),
            unit,
        }
    }

    fn execute(&mut self, command: &Out) -> Done {
        let (cdb, list) = command.encode();
        execute(&mut self.paths, &mut self.memory, &cdb, &list)
    }

    fn status(&mut self, command: &Out) -> Status {
        self.execute(command).outcome.status
    }

    /// B's.
    fn other(&self, command: &Out) -> Outcome {
        single(&self.unit, self.b, command)
    }

    /// The keys of A's paths.
    fn keys(&self) -> Vec<u64> {
        let unit = self.unit.borrow();
        self.paths
            .iter()
            .map(|path| unit.key_of(path.nexus).unwrap_or_default().get())
            .collect()
    }

    fn kept(&self) -> Option<u64> {
        self.memory.kept.map(|kept| kept.key.get())
    }

    fn reserved(&self) -> Option<ReservationType> {
        self.unit.borrow().reservation().map(|held| held.kind())
    }
}

fn single(unit: &Shared, nexus: NexusId, command: &Out) -> Outcome {
    let (cdb, list) = command.encode();
    ask(unit, nexus, &cdb, Data::ToDevice(&list))
}

/// A PERSISTENT RESERVE OUT command.
#[derive(Clone, Debug)]
struct Out {
    action: OutServiceAction,
    kind: u8,
    key: u64,
    action_key: u64,
    aptpl: bool,
    all_tg_pt: bool,
    /// Initiator ports that are named with it; REGISTER AND MOVE names one.
    named: Option<u64>,
    unregister: bool,
    /// One that is wrong is not the list's.
    length: Option<u8>,
}

impl Out {
    const fn new(action: OutServiceAction, key: u64, action_key: u64) -> Self {
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

    const fn of(mut self, kind: ReservationType) -> Self {
        self.kind = kind.code();
        self
    }

    fn encode(&self) -> ([u8; CDB_SIZE], Vec<u8>) {
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
        (padded(&cdb.encode()), list)
    }
}

fn command() -> impl Strategy<Value = Out> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), any::<bool>());
    let named = prop_oneof![9 => Just(None), 1 => prop_oneof![Just(Some(B)), Just(Some(99))]];
    let length = prop_oneof![30 => Just(None), 1 => (0..40_u8).prop_map(Some)];
    (0..9_u8, 0..10_u8, 0..4_u64, 0..4_u64, flags, named, length).prop_map(
        |(action, kind, key, action_key, (aptpl, all_tg_pt, unregister), named, length)| Out {
            action: OutServiceAction::from_code(action).unwrap(),
            kind,
            key,
            action_key,
            aptpl,
            all_tg_pt,
            named,
            unregister,
            length,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Whatever A and B do: all are answered alike, and what is registered and reserved is the same.
    #[test]
    fn two_paths_are_as_one(
        commands in vec((any::<bool>(), command()), 0..40),
        second in 1..3_u16,
    ) {
        let one = unit(&[(A1, 1), (B, 1)]);
        let [a, b] = ids(&one).try_into().unwrap();
        let mut map = Map::new(second);
        for (is_a, command) in &commands {
            let (expected, got) = match is_a {
                true => {
                    let done = map.execute(command);
                    prop_assert_eq!(done.remarks, Vec::<String>::new());
                    (single(&one, a, command), done.outcome)
                }
                false => (single(&one, b, command), map.other(command)),
            };
            let who = if *is_a { "A" } else { "B" };
            prop_assert_eq!(show(&expected), show(&got), "{} {:?}", who, command);
            let key = one.borrow().key_of(a).unwrap_or_default().get();
            prop_assert_eq!(map.keys(), [key, key], "{} {:?}", who, command);
            prop_assert_eq!(one.borrow().reservation().map(|held| held.kind()), map.reserved());
            let (one, two) = (one.borrow(), map.unit.borrow());
            prop_assert_eq!(one.key_of(b), two.key_of(map.b), "{} {:?}", who, command);
            prop_assert_eq!(one.attentions(b), two.attentions(map.b), "{} {:?}", who, command);
        }
    }
}

fn show(outcome: &Outcome) -> String {
    match Sense::decode(&outcome.sense) {
        Ok(sense) if outcome.sense != [0; SENSE_SIZE] => format!("{} {sense}", outcome.status),
        _ => outcome.status.to_string(),
    }
}
