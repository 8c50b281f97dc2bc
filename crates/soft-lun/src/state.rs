// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of a unit: registrations, reservation, generation, pending unit attentions.
//!
//! Every function leaves the state consistent. The service actions decide when to call which.

use scsi_pr::{AdditionalSense, PrGeneration, ReservationKey, ReservationType};

use crate::nexus::NexusId;

/// A unit attention condition that this crate establishes.
///
/// Source: SAM-5, unit attention conditions; the codes are those of SPC-4, 5.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnitAttention {
    /// 29h/00h: the unit lost power since the last command.
    PowerOn,
    /// 2Ah/03h: another nexus cleared the unit.
    ReservationsPreempted,
    /// 2Ah/04h: a reservation of registrants was released, or its type changed.
    ReservationsReleased,
    /// 2Ah/05h: another nexus removed the registration of this nexus.
    RegistrationsPreempted,
}

impl UnitAttention {
    /// All unit attentions.
    pub const ALL: [UnitAttention; 4] = [
        UnitAttention::PowerOn,
        UnitAttention::ReservationsPreempted,
        UnitAttention::ReservationsReleased,
        UnitAttention::RegistrationsPreempted,
    ];

    /// Returns the additional sense code that accompanies sense key UNIT ATTENTION.
    #[must_use]
    pub const fn additional_sense(self) -> AdditionalSense {
        match self {
            UnitAttention::PowerOn => AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET,
            UnitAttention::ReservationsPreempted => AdditionalSense::RESERVATIONS_PREEMPTED,
            UnitAttention::ReservationsReleased => AdditionalSense::RESERVATIONS_RELEASED,
            UnitAttention::RegistrationsPreempted => AdditionalSense::REGISTRATIONS_PREEMPTED,
        }
    }
}

/// The registration of a nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The registered nexus.
    pub nexus: NexusId,
    /// The reservation key, never zero.
    pub key: ReservationKey,
    /// `ALL_TG_PT`: the registration was made for all target ports.
    pub all_tg_pt: bool,
}

/// A persistent reservation. Its scope is always the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    kind: ReservationType,
    /// `None` for an all registrants type, which every registrant holds.
    holder: Option<NexusId>,
}

impl Reservation {
    /// Creates the reservation that `nexus` makes. For an all registrants type, every registrant
    /// holds it.
    #[must_use]
    pub fn new(kind: ReservationType, nexus: NexusId) -> Self {
        Reservation {
            kind,
            holder: (!kind.is_all_registrants()).then_some(nexus),
        }
    }

    /// Creates a reservation with this holder. Returns `None` if an all registrants type has a
    /// holder, or another type has none.
    #[must_use]
    pub fn with_holder(kind: ReservationType, holder: Option<NexusId>) -> Option<Self> {
        let reservation = Reservation { kind, holder };
        (kind.is_all_registrants() == holder.is_none()).then_some(reservation)
    }

    /// Returns the reservation type.
    #[must_use]
    pub const fn kind(&self) -> ReservationType {
        self.kind
    }

    /// Returns the holder; `None` for an all registrants type.
    #[must_use]
    pub const fn holder(&self) -> Option<NexusId> {
        self.holder
    }
}

/// The part of a unit that commands change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UnitState {
    /// In the order in which they were made, at most one for each nexus.
    registrations: Vec<Registration>,
    pub(crate) reservation: Option<Reservation>,
    pub(crate) generation: PrGeneration,
    /// The `APTPL` bit of the last registration, which applies to all registrations, including
    /// those of other nexuses (SPC-4, 6.16.3).
    pub(crate) aptpl: bool,
    /// For each nexus, the pending unit attentions, oldest first. A queue contains each condition
    /// at most once, which bounds the queue of a nexus that sends no commands.
    unit_attentions: Vec<Vec<UnitAttention>>,
}

impl UnitState {
    /// Creates the state of a unit without registrations and unit attentions.
    pub(crate) fn new(nexuses: usize) -> Self {
        UnitState {
            registrations: Vec::new(),
            reservation: None,
            generation: PrGeneration::default(),
            aptpl: false,
            unit_attentions: vec![Vec::new(); nexuses],
        }
    }

    pub(crate) fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    pub(crate) fn unit_attentions(&self, nexus: NexusId) -> &[UnitAttention] {
        let queue = self.unit_attentions.get(nexus.0);
        queue.map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the key that a nexus is registered with.
    pub(crate) fn key(&self, nexus: NexusId) -> Option<ReservationKey> {
        let registration = self.registrations.iter().find(|one| one.nexus == nexus);
        registration.map(|registration| registration.key)
    }

    pub(crate) fn is_registered(&self, nexus: NexusId) -> bool {
        self.key(nexus).is_some()
    }

    /// Returns whether a nexus holds the reservation (SPC-4, 5.12, persistent reservation holder).
    pub(crate) fn is_holder(&self, nexus: NexusId) -> bool {
        match self.reservation.map(|reservation| reservation.holder) {
            None => false,
            Some(Some(holder)) => holder == nexus,
            Some(None) => self.is_registered(nexus),
        }
    }

    /// Returns the key of the holder; `None` for an all registrants type.
    pub(crate) fn holder_key(&self) -> Option<ReservationKey> {
        self.key(self.reservation?.holder?)
    }

    /// Registers a nexus, or replaces its registration.
    pub(crate) fn register(&mut self, registration: Registration) {
        let mut existing = self.registrations.iter_mut();
        match existing.find(|existing| existing.nexus == registration.nexus) {
            Some(existing) => *existing = registration,
            None => self.registrations.push(registration),
        }
    }

    /// Removes the selected registrations and returns their nexuses, in the order of registration.
    /// The reservation is released with its last holder. Establishes no unit attentions.
    pub(crate) fn unregister(&mut self, selected: impl Fn(&Registration) -> bool) -> Vec<NexusId> {
        let removed = self.registrations.extract_if(.., |one| selected(one));
        let nexuses = removed.map(|registration| registration.nexus).collect();
        let held = match self.reservation.map(|reservation| reservation.holder) {
            None => true,
            Some(Some(holder)) => self.is_registered(holder),
            Some(None) => !self.registrations.is_empty(),
        };
        if !held {
            self.reservation = None;
        }
        nexuses
    }

    /// Counts a command that changes PRgeneration (SPC-4, 6.16.2).
    pub(crate) fn bump_generation(&mut self) {
        self.generation = self.generation.next();
    }

    /// Establishes a unit attention, unless it is pending already.
    pub(crate) fn establish(&mut self, attention: UnitAttention, nexus: NexusId) {
        establish(&mut self.unit_attentions, attention, nexus);
    }

    /// Establishes a unit attention for every registrant except the sender.
    pub(crate) fn notify_other_registrants(&mut self, sender: NexusId, attention: UnitAttention) {
        let registrants = self.registrations.iter().map(|one| one.nexus);
        for nexus in registrants.filter(|nexus| *nexus != sender) {
            establish(&mut self.unit_attentions, attention, nexus);
        }
    }

    /// Removes and returns the oldest unit attention of a nexus.
    pub(crate) fn take_unit_attention(&mut self, nexus: NexusId) -> Option<UnitAttention> {
        let queue = self.unit_attentions.get_mut(nexus.0)?;
        (!queue.is_empty()).then(|| queue.remove(0))
    }

    /// Simulates a power loss, as described at
    /// [`LogicalUnit::lose_power`](crate::LogicalUnit::lose_power).
    pub(crate) fn lose_power(&mut self) {
        if !self.aptpl {
            self.registrations.clear();
            self.reservation = None;
        }
        self.generation = PrGeneration::default();
        self.unit_attentions.fill(vec![UnitAttention::PowerOn]);
    }
}

fn establish(queues: &mut [Vec<UnitAttention>], attention: UnitAttention, nexus: NexusId) {
    match queues.get_mut(nexus.0) {
        Some(queue) if !queue.contains(&attention) => queue.push(attention),
        _ => {}
    }
}
