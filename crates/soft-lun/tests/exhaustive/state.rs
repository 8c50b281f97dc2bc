//! What must be true of every state.

use scsi_pr::{
    FullStatus, InServiceAction, Keys, PersistentReserveIn, ReservationData, ReservationKey,
    ScopeType, Status, TransportId,
};
use soft_lun::store::{LunConfig, Port, StateFile};
use soft_lun::{Access, LogicalUnit, Nexus, NexusId, Registration, Reservation, UnitAttention};

/// A unit without its generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) registrations: Vec<Registration>,
    pub(crate) reservation: Option<Reservation>,
    pub(crate) aptpl: bool,
    pub(crate) attentions: Vec<Vec<UnitAttention>>,
}

impl View {
    pub(crate) fn of(unit: &LogicalUnit) -> Self {
        View {
            registrations: unit.registrations().to_vec(),
            reservation: unit.reservation(),
            aptpl: unit.aptpl(),
            attentions: unit
                .nexuses()
                .map(|(id, _)| unit.unit_attentions(id).to_vec())
                .collect(),
        }
    }

    pub(crate) fn without_attentions(mut self) -> Self {
        self.attentions.clear();
        self
    }

    pub(crate) fn key_of(&self, nexus: NexusId) -> Option<ReservationKey> {
        let mut all = self.registrations.iter();
        all.find(|one| one.nexus == nexus).map(|one| one.key)
    }

    /// SPC-4, 5.12, persistent reservation holder.
    pub(crate) fn holds(&self, nexus: NexusId) -> bool {
        self.reservation.is_some_and(|held| match held.holder() {
            Some(holder) => holder == nexus,
            None => self.key_of(nexus).is_some(),
        })
    }
}

/// A unit with this many nexuses, each of an initiator port and a target port of its own.
pub(crate) fn clean(nexuses: u16) -> LogicalUnit {
    let nexus = |number: u16| Nexus {
        initiator: TransportId::Sas {
            sas_address: number.into(),
        },
        target_port: number.into(),
    };
    LogicalUnit::new((1..=nexuses).map(nexus).collect()).unwrap()
}

/// Lets every nexus hear what there is for it.
pub(crate) fn deliver_all(unit: &mut LogicalUnit) {
    let ids: Vec<_> = unit.nexuses().map(|(id, _)| id).collect();
    for id in ids {
        while !unit.unit_attentions(id).is_empty() {
            unit.access(id, Access::TestUnitReady);
        }
    }
}

/// Checks a state.
pub(crate) fn check(unit: &LogicalUnit, view: &View) {
    registrations_are_of_one_nexus_each(view);
    holders_are_registrants(unit, view);
    access_is_that_of_the_table(unit, view);
    attentions_wait_once(view);
    reports_agree(unit, view);
    what_is_stored_is_all_there_is(unit);
}

/// SPC-4, 5.12, registering: a nexus has one key, and zero is none.
fn registrations_are_of_one_nexus_each(view: &View) {
    for (place, one) in view.registrations.iter().enumerate() {
        assert!(!one.key.is_zero(), "{view:?}");
        let mut rest = view.registrations[place + 1..].iter();
        assert!(rest.all(|other| other.nexus != one.nexus), "{view:?}");
    }
}

/// SPC-4, 5.12, persistent reservation holder: it is registered; of all registrants types every
/// registrant is one, of the others one nexus is.
fn holders_are_registrants(unit: &LogicalUnit, view: &View) {
    let holders = unit.nexuses().filter(|(id, _)| unit.is_holder(*id));
    let holders: Vec<NexusId> = holders.map(|(id, _)| id).collect();
    assert!(
        holders.iter().all(|id| view.key_of(*id).is_some()),
        "{view:?}"
    );
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

/// SPC-4, 5.12, the tables of allowed commands; by the numbers of the types.
fn access_is_that_of_the_table(unit: &LogicalUnit, view: &View) {
    for (id, _) in unit.nexuses() {
        let (holds, registered) = (view.holds(id), view.key_of(id).is_some());
        let (read, write) = match view.reservation.map(|held| held.kind().code()) {
            None => (true, true),
            Some(1) => (true, holds),
            Some(3) => (holds, holds),
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

/// SAM-5, unit attentions: none is there twice, so that no more than three wait.
fn attentions_wait_once(view: &View) {
    for queue in &view.attentions {
        for (place, one) in queue.iter().enumerate() {
            assert!(!queue[place + 1..].contains(one), "{view:?}");
            assert_ne!(*one, UnitAttention::PowerOn);
        }
    }
}

/// SPC-4, 6.15: READ KEYS, READ RESERVATION and READ FULL STATUS tell the same story.
fn reports_agree(unit: &LogicalUnit, view: &View) {
    let mut unit = unit.clone();
    deliver_all(&mut unit);
    let asker = unit.nexuses().next().unwrap().0;
    let mut ask = |service_action| {
        let command = PersistentReserveIn {
            service_action,
            allocation_length: u16::MAX,
            control: 0,
        };
        let answer = unit.execute(asker, &command.encode(), &[]);
        assert_eq!(answer.status, Status::GOOD);
        answer.data
    };
    let keys = Keys::decode(&ask(InServiceAction::ReadKeys)).unwrap().value;
    let data = ask(InServiceAction::ReadReservation);
    let reservation = ReservationData::decode(&data).unwrap();
    let data = ask(InServiceAction::ReadFullStatus);
    let status = FullStatus::decode(&data).unwrap().value;

    assert_eq!(keys.generation, status.generation);
    assert_eq!(keys.generation, reservation.generation);
    let registered: Vec<_> = view.registrations.iter().map(|one| one.key).collect();
    assert_eq!(keys.keys, registered);
    let shown: Vec<_> = status.descriptors.iter().map(|one| one.key).collect();
    assert_eq!(shown, registered);

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

/// What is kept of a state, and what a file holds of it, is that state.
fn what_is_stored_is_all_there_is(unit: &LogicalUnit) {
    let mut other = clean(u16::try_from(unit.nexuses().count()).unwrap());
    other.restore(&unit.snapshot()).unwrap();
    assert!(other == *unit);

    let port = |(place, (_, nexus)): (usize, (NexusId, &Nexus))| Port {
        name: format!("port{place}").parse().unwrap(),
        nexus: nexus.clone(),
    };
    let description = LunConfig {
        identity: "naa.3000000000000001".parse().unwrap(),
        ports: unit.nexuses().enumerate().map(port).collect(),
        supported_features: unit.supported_features(),
    };
    let stored = StateFile::from_unit(&description, "boot", unit)
        .unwrap()
        .to_json()
        .unwrap();
    let mut other = description.unit().unwrap();
    let record = StateFile::from_json(&stored).unwrap();
    record.restore(&description, "boot", &mut other).unwrap();
    assert!(other == *unit);
}
