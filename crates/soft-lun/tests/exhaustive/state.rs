// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of every state.

use pr_testkit::cdb::pr_in;
use scsi_pr::{
    FullStatus, InServiceAction, Keys, ReservationData, ReservationKey, ScopeType, Status,
    TransportId,
};
use soft_lun::store::{LunConfig, Port, StateFile};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Registration, Reservation, UnitAttention};

/// The state of a unit without PRgeneration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateView {
    pub(crate) registrations: Vec<Registration>,
    pub(crate) reservation: Option<Reservation>,
    pub(crate) aptpl: bool,
    pub(crate) unit_attentions: Vec<Vec<UnitAttention>>,
}

impl StateView {
    pub(crate) fn of(unit: &LogicalUnit) -> Self {
        StateView {
            registrations: unit.registrations().to_vec(),
            reservation: unit.reservation(),
            aptpl: unit.aptpl(),
            unit_attentions: unit
                .nexuses()
                .map(|(id, _)| unit.unit_attentions(id).to_vec())
                .collect(),
        }
    }

    pub(crate) fn without_unit_attentions(mut self) -> Self {
        self.unit_attentions.clear();
        self
    }

    pub(crate) fn key(&self, nexus: NexusId) -> Option<ReservationKey> {
        let mut all = self.registrations.iter();
        all.find(|one| one.nexus == nexus).map(|one| one.key)
    }

    /// Returns whether a nexus holds the reservation (SPC-4, 5.12, persistent reservation holder).
    pub(crate) fn is_holder(&self, nexus: NexusId) -> bool {
        self.reservation.is_some_and(|held| match held.holder() {
            Some(holder) => holder == nexus,
            None => self.key(nexus).is_some(),
        })
    }
}

/// Creates a unit with this many nexuses, each with its own initiator port and target port.
pub(crate) fn new_unit(nexuses: u16) -> LogicalUnit {
    let nexus = |number: u16| Nexus {
        initiator: TransportId::Sas {
            sas_address: number.into(),
        },
        target_port: number.into(),
    };
    LogicalUnit::new((1..=nexuses).map(nexus).collect()).unwrap()
}

/// Makes the unit report all pending unit attentions.
pub(crate) fn report_all_unit_attentions(unit: &mut LogicalUnit) {
    let ids: Vec<_> = unit.nexuses().map(|(id, _)| id).collect();
    for id in ids {
        while !unit.unit_attentions(id).is_empty() {
            unit.access(id, Access::TestUnitReady);
        }
    }
}

/// Checks a state.
pub(crate) fn check(unit: &LogicalUnit, view: &StateView) {
    check_registrations(view);
    check_holders(unit, view);
    check_access(unit, view);
    check_unit_attention_queues(view);
    check_parameter_data(unit, view);
    check_snapshot_and_state_file(unit);
}

/// SPC-4, 5.12, registering: a nexus has at most one key, which is not zero.
fn check_registrations(view: &StateView) {
    for (index, one) in view.registrations.iter().enumerate() {
        assert!(!one.key.is_zero(), "{view:?}");
        let mut rest = view.registrations[index + 1..].iter();
        assert!(rest.all(|other| other.nexus != one.nexus), "{view:?}");
    }
}

/// SPC-4, 5.12, persistent reservation holder: holders are registered. All registrants hold a
/// reservation of an all registrants type; one nexus holds a reservation of another type.
fn check_holders(unit: &LogicalUnit, view: &StateView) {
    let holders = unit.nexuses().filter(|(id, _)| unit.is_holder(*id));
    let holders: Vec<NexusId> = holders.map(|(id, _)| id).collect();
    assert!(holders.iter().all(|id| view.key(*id).is_some()), "{view:?}");
    let expected = match view
        .reservation
        .map(|held| held.kind().is_all_registrants())
    {
        None => 0,
        Some(false) => 1,
        Some(true) => view.registrations.len(),
    };
    assert_eq!(holders.len(), expected, "{view:?}");
    assert!(
        view.reservation.is_none() || !holders.is_empty(),
        "{view:?}"
    );
}

/// SPC-4, 5.12, the tables of allowed commands, by type code.
fn check_access(unit: &LogicalUnit, view: &StateView) {
    for (id, _) in unit.nexuses() {
        let (is_holder, registered) = (view.is_holder(id), view.key(id).is_some());
        let (read, write) = match view.reservation.map(|held| held.kind().code()) {
            None => (true, true),
            Some(1) => (true, is_holder),
            Some(3) => (is_holder, is_holder),
            Some(5 | 7) => (true, registered),
            Some(6 | 8) => (registered, registered),
            Some(code) => panic!("type {code}"),
        };
        assert_eq!(
            (unit.can_read(id), unit.can_write(id)),
            (read, write),
            "{view:?}"
        );
    }
}

/// SAM-5, unit attentions: a queue contains each unit attention at most once, which limits it to
/// three here.
fn check_unit_attention_queues(view: &StateView) {
    for queue in &view.unit_attentions {
        for (index, one) in queue.iter().enumerate() {
            assert!(!queue[index + 1..].contains(one), "{view:?}");
            assert_ne!(*one, UnitAttention::PowerOn);
        }
    }
}

/// SPC-4, 6.15: READ KEYS, READ RESERVATION and READ FULL STATUS are consistent.
fn check_parameter_data(unit: &LogicalUnit, view: &StateView) {
    let mut unit = unit.clone();
    report_all_unit_attentions(&mut unit);
    let reader = unit.nexuses().next().unwrap().0;
    let mut read = |service_action| {
        let response = unit.execute(reader, &pr_in(service_action, u16::MAX).cdb, &[]);
        assert_eq!(response.status, Status::GOOD);
        response.data
    };
    let keys = Keys::decode(&read(InServiceAction::ReadKeys))
        .unwrap()
        .value;
    let data = read(InServiceAction::ReadReservation);
    let reservation = ReservationData::decode(&data).unwrap();
    let data = read(InServiceAction::ReadFullStatus);
    let status = FullStatus::decode(&data).unwrap().value;

    assert_eq!(keys.generation, status.generation);
    assert_eq!(keys.generation, reservation.generation);
    let registered: Vec<_> = view.registrations.iter().map(|one| one.key).collect();
    assert_eq!(keys.keys, registered);
    let reported: Vec<_> = status.descriptors.iter().map(|one| one.key).collect();
    assert_eq!(reported, registered);

    let holders: Vec<_> = status.descriptors.iter().filter(|one| one.holder).collect();
    let Some(held) = reservation.reservation else {
        assert!(holders.is_empty() && view.reservation.is_none());
        return;
    };
    let kind = view.reservation.unwrap().kind();
    assert_eq!(held.scope_type, ScopeType::from(kind));
    assert!(holders.iter().all(|one| one.scope_type == held.scope_type));
    match kind.is_all_registrants() {
        true => assert!(held.key.is_zero() && holders.len() == registered.len()),
        false => assert!(holders.len() == 1 && holders[0].key == held.key),
    }
}

/// A snapshot and a state file contain the complete state.
fn check_snapshot_and_state_file(unit: &LogicalUnit) {
    let mut other = new_unit(u16::try_from(unit.nexuses().count()).unwrap());
    other.restore(&unit.snapshot()).unwrap();
    assert!(other == *unit);

    let port = |(index, (_, nexus)): (usize, (NexusId, &Nexus))| Port {
        name: format!("port{index}").parse().unwrap(),
        nexus: nexus.clone(),
    };
    let config = LunConfig {
        identity: "naa.3000000000000001".parse().unwrap(),
        ports: unit.nexuses().enumerate().map(port).collect(),
        supported_features: unit.supported_features(),
    };
    let stored = StateFile::from_unit(&config, "boot", unit)
        .unwrap()
        .to_json()
        .unwrap();
    let mut other = config.unit().unwrap();
    let state_file = StateFile::from_json(&stored).unwrap();
    state_file.restore(&config, "boot", &mut other).unwrap();
    assert!(other == *unit);
}
