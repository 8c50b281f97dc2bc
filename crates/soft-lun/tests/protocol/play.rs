//! Two nodes, A and B, that talk to one unit: what they send, and what they must get.

use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, FullStatus, InServiceAction, Keys, OutServiceAction,
    PersistentReserveIn, PersistentReserveOut, RegisterAndMove, ReservationData, ReservationKey,
    ReservationType, ScopeType, Sense, SenseKey, Status, TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response};

pub(crate) const KEY_A: u64 = 0xaaaa;
pub(crate) const KEY_B: u64 = 0xbbbb;
pub(crate) const STALE: u64 = 0x0bad;

pub(crate) const WRITE_EXCLUSIVE: ReservationType = ReservationType::WriteExclusive;
pub(crate) const EXCLUSIVE: ReservationType = ReservationType::ExclusiveAccess;
pub(crate) const WRITE_REGISTRANTS: ReservationType =
    ReservationType::WriteExclusiveRegistrantsOnly;
pub(crate) const WRITE_ALL: ReservationType = ReservationType::WriteExclusiveAllRegistrants;

/// A node's nexus, by its place in the list of the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node(usize);

pub(crate) const A: Node = Node(0);
pub(crate) const B: Node = Node(1);
pub(crate) const C: Node = Node(2);

/// A command with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) cdb: Vec<u8>,
    pub(crate) parameters: Vec<u8>,
}

pub(crate) fn out(action: OutServiceAction, scope_type: u8, parameters: Vec<u8>) -> Command {
    let cdb = Cdb::Out(PersistentReserveOut {
        service_action: action,
        scope_type: ScopeType(scope_type),
        parameter_list_length: u32::try_from(parameters.len()).unwrap(),
        control: 0,
    });
    Command {
        cdb: cdb.encode().to_vec(),
        parameters,
    }
}

pub(crate) fn basic(key: u64, action_key: u64) -> BasicParameterList {
    BasicParameterList {
        reservation_key: ReservationKey::new(key),
        service_action_reservation_key: ReservationKey::new(action_key),
        ..BasicParameterList::default()
    }
}

pub(crate) fn register(key: u64, new: u64) -> Command {
    register_with(&basic(key, new))
}

pub(crate) fn register_with(list: &BasicParameterList) -> Command {
    out(OutServiceAction::Register, 0, list.encode())
}

pub(crate) fn register_and_ignore(list: &BasicParameterList) -> Command {
    let action = OutServiceAction::RegisterAndIgnoreExistingKey;
    out(action, 0, list.encode())
}

pub(crate) fn reserve(key: u64, kind: ReservationType) -> Command {
    out(
        OutServiceAction::Reserve,
        kind.code(),
        basic(key, 0).encode(),
    )
}

pub(crate) fn release(key: u64, kind: ReservationType) -> Command {
    out(
        OutServiceAction::Release,
        kind.code(),
        basic(key, 0).encode(),
    )
}

pub(crate) fn clear(key: u64) -> Command {
    out(OutServiceAction::Clear, 0, basic(key, 0).encode())
}

pub(crate) fn preempt(key: u64, victim: u64, kind: ReservationType) -> Command {
    let list = basic(key, victim).encode();
    out(OutServiceAction::Preempt, kind.code(), list)
}

pub(crate) fn preempt_and_abort(key: u64, victim: u64, kind: ReservationType) -> Command {
    let list = basic(key, victim).encode();
    out(OutServiceAction::PreemptAndAbort, kind.code(), list)
}

/// REGISTER AND MOVE to a node with a key.
pub(crate) fn to(node: Node, key: u64, new: u64) -> RegisterAndMove {
    let nexus = nexus(node);
    RegisterAndMove {
        reservation_key: key.into(),
        service_action_reservation_key: new.into(),
        unregister: false,
        aptpl: false,
        relative_target_port: nexus.target_port,
        transport_id: nexus.initiator,
    }
}

pub(crate) fn moving(list: &RegisterAndMove) -> Command {
    out(OutServiceAction::RegisterAndMove, 0, list.encode())
}

pub(crate) fn ask(service_action: InServiceAction, allocation_length: u16) -> Command {
    let cdb = Cdb::In(PersistentReserveIn {
        service_action,
        allocation_length,
        control: 0,
    });
    Command {
        cdb: cdb.encode().to_vec(),
        parameters: Vec::new(),
    }
}

pub(crate) fn sas(address: u64) -> TransportId {
    TransportId::Sas {
        sas_address: address,
    }
}

/// The nexus of a node: each has its own initiator port and target port.
pub(crate) fn nexus(node: Node) -> Nexus {
    let number = u16::try_from(node.0).unwrap() + 1;
    Nexus {
        initiator: sas(0x5001_4050_0000_0000 + u64::from(number)),
        target_port: number.into(),
    }
}

pub(crate) struct Play {
    pub(crate) unit: LogicalUnit,
}

impl Play {
    /// A, B and C, of which nobody is registered.
    pub(crate) fn new() -> Self {
        Play::of([A, B, C].map(nexus).to_vec())
    }

    pub(crate) fn of(nexuses: Vec<Nexus>) -> Self {
        Play {
            unit: LogicalUnit::new(nexuses).unwrap(),
        }
    }

    /// A and B registered, and A holding.
    pub(crate) fn held(kind: ReservationType) -> Self {
        let mut play = Play::new();
        play.good(A, &register(0, KEY_A));
        play.good(B, &register(0, KEY_B));
        play.good(A, &reserve(KEY_A, kind));
        play
    }

    pub(crate) fn id(&self, node: Node) -> NexusId {
        self.unit.nexuses().nth(node.0).unwrap().0
    }

    pub(crate) fn send(&mut self, node: Node, command: &Command) -> Response {
        let id = self.id(node);
        self.unit.execute(id, &command.cdb, &command.parameters)
    }

    #[track_caller]
    pub(crate) fn good(&mut self, node: Node, command: &Command) -> Vec<u8> {
        let answer = self.send(node, command);
        assert_eq!((answer.status, answer.sense), (Status::GOOD, None));
        answer.data
    }

    #[track_caller]
    pub(crate) fn conflict(&mut self, node: Node, command: &Command) {
        let before = self.unit.clone();
        let answer = self.send(node, command);
        assert_eq!(answer.status, Status::RESERVATION_CONFLICT, "{answer:?}");
        assert_eq!((answer.sense, answer.data.len()), (None, 0));
        assert_eq!(self.unit, before);
    }

    #[track_caller]
    pub(crate) fn illegal(&mut self, node: Node, command: &Command, asc: u8, ascq: u8) {
        let before = self.unit.clone();
        let answer = self.send(node, command);
        let code = AdditionalSense { asc, ascq };
        assert_eq!(
            (answer.status, answer.sense, answer.data.len()),
            (
                Status::CHECK_CONDITION,
                Some(Sense::new(SenseKey::IllegalRequest, code)),
                0
            )
        );
        assert_eq!(self.unit, before);
    }

    /// The node's next command meets a unit attention, and the one after it does not meet it again.
    #[track_caller]
    pub(crate) fn told(&mut self, node: Node, asc: u8, ascq: u8) {
        let answer = self.send(node, &ask(InServiceAction::ReadKeys, 255));
        let code = AdditionalSense { asc, ascq };
        let sense = Sense::new(SenseKey::UnitAttention, code);
        assert_eq!(
            (answer.status, answer.sense),
            (Status::CHECK_CONDITION, Some(sense))
        );
    }

    /// Nothing waits for these nodes.
    #[track_caller]
    pub(crate) fn ready(&mut self, nodes: &[Node]) {
        for node in nodes {
            let id = self.id(*node);
            assert_eq!(self.unit.unit_attentions(id), [], "{node:?}");
            assert_eq!(self.unit.access(id, Access::TestUnitReady).status, Status::GOOD);
        }
    }

    /// Generation and keys, as C reads them.
    #[track_caller]
    pub(crate) fn keys(&mut self, generation: u32, keys: &[u64]) {
        let data = self.good(C, &ask(InServiceAction::ReadKeys, 255));
        let read = Keys::decode(&data).unwrap().complete().unwrap();
        let values: Vec<u64> = read.keys.iter().map(|key| key.get()).collect();
        assert_eq!((read.generation.get(), &*values), (generation, keys));
    }

    /// The reservation, as C reads it: the holder's key, and its type.
    #[track_caller]
    pub(crate) fn reservation(&mut self, expected: Option<(u64, ReservationType)>) {
        let data = self.good(C, &ask(InServiceAction::ReadReservation, 255));
        let read = ReservationData::decode(&data).unwrap().reservation;
        let read = read.map(|held| (held.key.get(), held.scope_type));
        let expected = expected.map(|(key, kind)| (key, ScopeType::from(kind)));
        assert_eq!(read, expected);
    }

    #[track_caller]
    pub(crate) fn full_status(&mut self) -> FullStatus {
        let data = self.good(C, &ask(InServiceAction::ReadFullStatus, 8192));
        FullStatus::decode(&data).unwrap().complete().unwrap()
    }
}

/// The key that READ RESERVATION answers where `key` is that of the one who reserved.
pub(crate) fn shown(key: u64, kind: ReservationType) -> u64 {
    if kind.is_all_registrants() { 0 } else { key }
}

/// Any other type.
pub(crate) fn other(kind: ReservationType) -> ReservationType {
    if kind == EXCLUSIVE {
        WRITE_EXCLUSIVE
    } else {
        EXCLUSIVE
    }
}
