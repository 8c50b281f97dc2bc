// SPDX-License-Identifier: MIT OR Apache-2.0

//! A unit with the nodes A, B and C, and assertions about the responses to their commands.

use pr_testkit::cdb::{self, PrCommand, pr_in, register, reserve};
use scsi_pr::{
    AdditionalSense, FullStatus, InServiceAction, Keys, RegisterAndMove, ReservationData,
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

pub(crate) const INVALID_CDB: AdditionalSense = AdditionalSense::INVALID_FIELD_IN_CDB;
pub(crate) const INVALID_LIST: AdditionalSense = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
pub(crate) const INVALID_LENGTH: AdditionalSense = AdditionalSense::PARAMETER_LIST_LENGTH_ERROR;

pub(crate) const RESERVATIONS_RELEASED: AdditionalSense = AdditionalSense::RESERVATIONS_RELEASED;
pub(crate) const REGISTRATIONS_PREEMPTED: AdditionalSense =
    AdditionalSense::REGISTRATIONS_PREEMPTED;
pub(crate) const POWER_ON: AdditionalSense = AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET;

/// The index of a node's nexus in the list of the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node(usize);

pub(crate) const A: Node = Node(0);
pub(crate) const B: Node = Node(1);
pub(crate) const C: Node = Node(2);

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

/// Creates a nexus from the text of a TransportID and a relative target port.
pub(crate) fn nexus_at(initiator: &str, target_port: u16) -> Nexus {
    Nexus {
        initiator: initiator.parse().unwrap(),
        target_port: target_port.into(),
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

    pub(crate) fn send(&mut self, node: Node, command: &PrCommand) -> Response {
        let id = self.id(node);
        self.inner
            .execute(id, &command.cdb, &command.parameter_list)
    }

    #[track_caller]
    pub(crate) fn expect_good(&mut self, node: Node, command: &PrCommand) -> Vec<u8> {
        let response = self.send(node, command);
        assert_eq!((response.status, response.sense), (Status::GOOD, None));
        response.data
    }

    #[track_caller]
    pub(crate) fn expect_conflict(&mut self, node: Node, command: &PrCommand) {
        let before = self.inner.clone();
        let response = self.send(node, command);
        assert_eq!(response, failure(Status::RESERVATION_CONFLICT, None));
        assert_eq!(self.inner, before);
    }

    #[track_caller]
    pub(crate) fn expect_illegal(
        &mut self,
        node: Node,
        command: &PrCommand,
        code: AdditionalSense,
    ) {
        let before = self.inner.clone();
        let response = self.send(node, command);
        let sense = Sense::new(SenseKey::IllegalRequest, code);
        assert_eq!(response, failure(Status::CHECK_CONDITION, Some(sense)));
        assert_eq!(self.inner, before);
    }

    /// Asserts that the next command of the node reports this unit attention.
    #[track_caller]
    pub(crate) fn expect_unit_attention(&mut self, node: Node, code: AdditionalSense) {
        let response = self.send(node, &cdb::read_keys(255));
        let sense = Sense::new(SenseKey::UnitAttention, code);
        assert_eq!(response, failure(Status::CHECK_CONDITION, Some(sense)));
    }

    /// Asserts that no unit attention is pending for any node.
    #[track_caller]
    pub(crate) fn expect_ready(&mut self) {
        for node in [A, B, C] {
            let id = self.id(node);
            assert_eq!(self.inner.unit_attentions(id), [], "{node:?}");
            let response = self.inner.access(id, Access::TestUnitReady);
            assert_eq!(response.status, Status::GOOD);
        }
    }

    /// Asserts PRgeneration and the keys that C reads.
    #[track_caller]
    pub(crate) fn expect_keys(&mut self, generation: u32, keys: &[u64]) {
        let data = self.expect_good(C, &cdb::read_keys(255));
        let read = Keys::decode(&data).unwrap().complete().unwrap();
        let values: Vec<u64> = read.keys.iter().map(|key| key.get()).collect();
        assert_eq!((read.generation.get(), &*values), (generation, keys));
    }

    /// Asserts the reservation that C reads: the reported key and the type.
    #[track_caller]
    pub(crate) fn expect_reservation(&mut self, expected: Option<(u64, ReservationType)>) {
        let data = self.expect_good(C, &cdb::read_reservation(255));
        let read = ReservationData::decode(&data).unwrap().reservation;
        let read = read.map(|held| (held.key.get(), held.scope_type));
        let expected = expected.map(|(key, kind)| (key, ScopeType::from(kind)));
        assert_eq!(read, expected);
    }

    #[track_caller]
    pub(crate) fn read_full_status(&mut self) -> FullStatus {
        let data = self.expect_good(C, &pr_in(InServiceAction::ReadFullStatus, 8192));
        FullStatus::decode(&data).unwrap().complete().unwrap()
    }
}

/// Returns a response without data.
fn failure(status: Status, sense: Option<Sense>) -> Response {
    Response {
        status,
        sense,
        data: Vec::new(),
    }
}

/// Returns the key that READ RESERVATION reports if the node with `key` made the reservation.
pub(crate) fn reported_key(key: u64, kind: ReservationType) -> u64 {
    if kind.is_all_registrants() { 0 } else { key }
}

/// Returns another type.
pub(crate) fn other_type(kind: ReservationType) -> ReservationType {
    match kind == EXCLUSIVE_ACCESS {
        true => WRITE_EXCLUSIVE,
        false => EXCLUSIVE_ACCESS,
    }
}
