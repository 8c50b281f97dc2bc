//! A unit with the nodes A, B and C, the commands that they send, and assertions about responses.

use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, FullStatus, InServiceAction, Keys, OutServiceAction,
    PersistentReserveIn, PersistentReserveOut, RegisterAndMove, ReservationData, ReservationKey,
    ReservationType, ScopeType, Sense, SenseKey, Status, TransportId,
};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Response};

pub(crate) const KEY_A: u64 = 0xaaaa;
pub(crate) const KEY_B: u64 = 0xbbbb;
/// A key that no node is registered with, unless the test registers it for C.
pub(crate) const STALE: u64 = 0x0bad;

pub(crate) const WRITE_EXCLUSIVE: ReservationType = ReservationType::WriteExclusive;
pub(crate) const EXCLUSIVE_ACCESS: ReservationType = ReservationType::ExclusiveAccess;
pub(crate) const WRITE_REGISTRANTS_ONLY: ReservationType =
    ReservationType::WriteExclusiveRegistrantsOnly;
pub(crate) const WRITE_ALL_REGISTRANTS: ReservationType =
    ReservationType::WriteExclusiveAllRegistrants;

/// The index of a node's nexus in the list of the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node(usize);

pub(crate) const A: Node = Node(0);
pub(crate) const B: Node = Node(1);
pub(crate) const C: Node = Node(2);

/// A CDB and its parameter list.
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

/// Returns the parameter list that moves the reservation of the sender to a node.
pub(crate) fn move_to(node: Node, key: u64, new: u64) -> RegisterAndMove {
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

pub(crate) fn register_and_move(list: &RegisterAndMove) -> Command {
    out(OutServiceAction::RegisterAndMove, 0, list.encode())
}

pub(crate) fn reserve_in(service_action: InServiceAction, allocation_length: u16) -> Command {
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

/// Returns the nexus of a node. Each node has its own initiator port and target port.
pub(crate) fn nexus(node: Node) -> Nexus {
    let number = u16::try_from(node.0).unwrap() + 1;
    Nexus {
        initiator: sas(0x5001_4050_0000_0000 + u64::from(number)),
        target_port: number.into(),
    }
}

/// A unit under test.
pub(crate) struct TestUnit {
    pub(crate) inner: LogicalUnit,
}

impl TestUnit {
    /// Creates a unit of A, B and C without registrations.
    pub(crate) fn new() -> Self {
        TestUnit::with_nexuses([A, B, C].map(nexus).to_vec())
    }

    pub(crate) fn with_nexuses(nexuses: Vec<Nexus>) -> Self {
        TestUnit {
            inner: LogicalUnit::new(nexuses).unwrap(),
        }
    }

    /// Creates a unit with A and B registered, and reserved by A.
    pub(crate) fn reserved(kind: ReservationType) -> Self {
        let mut unit = TestUnit::new();
        unit.expect_good(A, &register(0, KEY_A));
        unit.expect_good(B, &register(0, KEY_B));
        unit.expect_good(A, &reserve(KEY_A, kind));
        unit
    }

    pub(crate) fn id(&self, node: Node) -> NexusId {
        self.inner.nexuses().nth(node.0).unwrap().0
    }

    pub(crate) fn send(&mut self, node: Node, command: &Command) -> Response {
        let id = self.id(node);
        self.inner.execute(id, &command.cdb, &command.parameters)
    }

    #[track_caller]
    pub(crate) fn expect_good(&mut self, node: Node, command: &Command) -> Vec<u8> {
        let response = self.send(node, command);
        assert_eq!((response.status, response.sense), (Status::GOOD, None));
        response.data
    }

    #[track_caller]
    pub(crate) fn expect_conflict(&mut self, node: Node, command: &Command) {
        let before = self.inner.clone();
        let response = self.send(node, command);
        assert_eq!(
            response.status,
            Status::RESERVATION_CONFLICT,
            "{response:?}"
        );
        assert_eq!((response.sense, response.data.len()), (None, 0));
        assert_eq!(self.inner, before);
    }

    #[track_caller]
    pub(crate) fn expect_illegal(&mut self, node: Node, command: &Command, asc: u8, ascq: u8) {
        let before = self.inner.clone();
        let response = self.send(node, command);
        let code = AdditionalSense { asc, ascq };
        assert_eq!(
            (response.status, response.sense, response.data.len()),
            (
                Status::CHECK_CONDITION,
                Some(Sense::new(SenseKey::IllegalRequest, code)),
                0
            )
        );
        assert_eq!(self.inner, before);
    }

    /// Asserts that the next command of the node reports this unit attention.
    #[track_caller]
    pub(crate) fn expect_unit_attention(&mut self, node: Node, asc: u8, ascq: u8) {
        let response = self.send(node, &reserve_in(InServiceAction::ReadKeys, 255));
        let code = AdditionalSense { asc, ascq };
        let sense = Sense::new(SenseKey::UnitAttention, code);
        assert_eq!(
            (response.status, response.sense),
            (Status::CHECK_CONDITION, Some(sense))
        );
    }

    /// Asserts that no unit attention is pending for these nodes.
    #[track_caller]
    pub(crate) fn expect_ready(&mut self, nodes: &[Node]) {
        for node in nodes {
            let id = self.id(*node);
            assert_eq!(self.inner.unit_attentions(id), [], "{node:?}");
            assert_eq!(
                self.inner.access(id, Access::TestUnitReady).status,
                Status::GOOD
            );
        }
    }

    /// Asserts PRgeneration and the keys that C reads.
    #[track_caller]
    pub(crate) fn expect_keys(&mut self, generation: u32, keys: &[u64]) {
        let data = self.expect_good(C, &reserve_in(InServiceAction::ReadKeys, 255));
        let read = Keys::decode(&data).unwrap().complete().unwrap();
        let values: Vec<u64> = read.keys.iter().map(|key| key.get()).collect();
        assert_eq!((read.generation.get(), &*values), (generation, keys));
    }

    /// Asserts the reservation that C reads: the reported key and the type.
    #[track_caller]
    pub(crate) fn expect_reservation(&mut self, expected: Option<(u64, ReservationType)>) {
        let data = self.expect_good(C, &reserve_in(InServiceAction::ReadReservation, 255));
        let read = ReservationData::decode(&data).unwrap().reservation;
        let read = read.map(|held| (held.key.get(), held.scope_type));
        let expected = expected.map(|(key, kind)| (key, ScopeType::from(kind)));
        assert_eq!(read, expected);
    }

    #[track_caller]
    pub(crate) fn read_full_status(&mut self) -> FullStatus {
        let data = self.expect_good(C, &reserve_in(InServiceAction::ReadFullStatus, 8192));
        FullStatus::decode(&data).unwrap().complete().unwrap()
    }
}

/// Returns the key that READ RESERVATION reports if the node with `key` made the reservation.
pub(crate) fn reported_key(key: u64, kind: ReservationType) -> u64 {
    if kind.is_all_registrants() { 0 } else { key }
}

/// Returns another type.
pub(crate) fn other_type(kind: ReservationType) -> ReservationType {
    if kind == EXCLUSIVE_ACCESS {
        WRITE_EXCLUSIVE
    } else {
        EXCLUSIVE_ACCESS
    }
}
