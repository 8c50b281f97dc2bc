//! What a unit remembers: registrations, the reservation, what is to be told to whom.
//!
//! The functions here keep the state consistent; when each may be called is the service actions'.

use scsi_pr::{PrGeneration, ReservationKey, ReservationType};

use crate::answer::CommandError;
use crate::attention::{UnitAttention, UnitAttentionQueue};
use crate::nexus::NexusId;

/// The key of a nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The nexus.
    pub nexus: NexusId,
    /// Its key, never zero.
    pub key: ReservationKey,
    /// Whether it was made with `ALL_TG_PT`.
    pub all_tg_pt: bool,
}

/// A persistent reservation; its scope is always the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    kind: ReservationType,
    /// `None` where every registrant holds it.
    holder: Option<NexusId>,
}

impl Reservation {
    /// One that `nexus` makes: all registrants hold it if it is of such a type.
    #[must_use]
    pub fn new(kind: ReservationType, nexus: NexusId) -> Self {
        Reservation {
            kind,
            holder: (!kind.is_all_registrants()).then_some(nexus),
        }
    }

    /// One with this holder, or with none for a type that all registrants hold; `None` if type and
    /// holder do not go together.
    #[must_use]
    pub fn with_holder(kind: ReservationType, holder: Option<NexusId>) -> Option<Self> {
        let reservation = Reservation { kind, holder };
        (kind.is_all_registrants() == holder.is_none()).then_some(reservation)
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> ReservationType {
        self.kind
    }

    /// The nexus that holds it; `None` where every registrant does.
    #[must_use]
    pub const fn holder(&self) -> Option<NexusId> {
        self.holder
    }
}

/// The changing part of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// In the order in which they were made, one for a nexus.
    registrations: Vec<Registration>,
    reservation: Option<Reservation>,
    generation: PrGeneration,
    aptpl: bool,
    /// One queue for each nexus.
    attentions: Vec<UnitAttentionQueue>,
}

impl State {
    /// No registrations, and nothing to tell.
    pub(crate) fn new(nexuses: usize) -> Self {
        State {
            registrations: Vec::new(),
            reservation: None,
            generation: PrGeneration::default(),
            aptpl: false,
            attentions: vec![UnitAttentionQueue::default(); nexuses],
        }
    }

    pub(crate) fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    pub(crate) const fn reservation(&self) -> Option<Reservation> {
        self.reservation
    }

    pub(crate) const fn generation(&self) -> PrGeneration {
        self.generation
    }

    pub(crate) const fn aptpl(&self) -> bool {
        self.aptpl
    }

    pub(crate) fn attentions(&self, nexus: NexusId) -> &[UnitAttention] {
        let queue = self.attentions.get(nexus.0);
        queue.map(UnitAttentionQueue::as_slice).unwrap_or_default()
    }

    /// The key that a nexus is registered with.
    pub(crate) fn key_of(&self, nexus: NexusId) -> Option<ReservationKey> {
        self.registrations
            .iter()
            .find(|registration| registration.nexus == nexus)
            .map(|registration| registration.key)
    }

    pub(crate) fn is_registered(&self, nexus: NexusId) -> bool {
        self.key_of(nexus).is_some()
    }

    /// Whether a nexus holds the reservation (SPC-4, 5.12, persistent reservation holder).
    pub(crate) fn is_holder(&self, nexus: NexusId) -> bool {
        self.reservation
            .is_some_and(|reservation| match reservation.holder {
                Some(holder) => holder == nexus,
                None => self.is_registered(nexus),
            })
    }

    /// The key of the one holder, if there is one.
    pub(crate) fn holder_key(&self) -> Option<ReservationKey> {
        self.reservation?
            .holder
            .and_then(|nexus| self.key_of(nexus))
    }

    /// SPC-4, 6.16.3, RESERVATION KEY: that of the sender, or RESERVATION CONFLICT; which one that is
    /// not registered gets as well.
    ///
    /// # Errors
    ///
    /// [`Refusal::Conflict`]: it is not.
    pub(crate) fn check_key(
        &self,
        sender: NexusId,
        key: ReservationKey,
    ) -> Result<(), CommandError> {
        match self.key_of(sender) == Some(key) {
            true => Ok(()),
            false => Err(CommandError::Conflict),
        }
    }

    /// Registers a nexus, or gives it another key.
    pub(crate) fn register(&mut self, registration: Registration) {
        let existing = self
            .registrations
            .iter_mut()
            .find(|existing| existing.nexus == registration.nexus);
        match existing {
            Some(existing) => *existing = registration,
            None => self.registrations.push(registration),
        }
    }

    /// Removes registrations, and with its last holder the reservation. Nobody is told.
    pub(crate) fn unregister(&mut self, doomed: impl Fn(&Registration) -> bool) -> Unregistered {
        let registrations = self.registrations.extract_if(.., |one| doomed(one));
        let nexuses = registrations
            .map(|registration| registration.nexus)
            .collect();
        let held = match self.reservation.map(|reservation| reservation.holder) {
            None => true,
            Some(Some(holder)) => self.is_registered(holder),
            Some(None) => !self.registrations.is_empty(),
        };
        let reservation = if held { None } else { self.reservation.take() };
        Unregistered {
            nexuses,
            reservation,
        }
    }

    pub(crate) fn reserve(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }

    pub(crate) fn release(&mut self) {
        self.reservation = None;
    }

    /// Counts a command that the standard wants counted (SPC-4, 6.16.2).
    pub(crate) fn bump_generation(&mut self) {
        self.generation = self.generation.next();
    }

    pub(crate) fn set_generation(&mut self, generation: PrGeneration) {
        self.generation = generation;
    }

    /// SPC-4, 6.16.3, `APTPL`: the last value governs all registrations, whoever sent it.
    pub(crate) fn set_aptpl(&mut self, aptpl: bool) {
        self.aptpl = aptpl;
    }

    pub(crate) fn establish(&mut self, attention: UnitAttention, nexus: NexusId) {
        if let Some(queue) = self.attentions.get_mut(nexus.0) {
            queue.establish(attention);
        }
    }

    /// Tells every registrant but one.
    pub(crate) fn notify_other_registrants(&mut self, sender: NexusId, attention: UnitAttention) {
        let registrants = self.registrations.iter().map(|one| one.nexus);
        for nexus in registrants.filter(|nexus| *nexus != sender) {
            if let Some(queue) = self.attentions.get_mut(nexus.0) {
                queue.establish(attention);
            }
        }
    }

    /// The oldest unit attention of a nexus, which is then delivered.
    pub(crate) fn take_attention(&mut self, nexus: NexusId) -> Option<UnitAttention> {
        self.attentions.get_mut(nexus.0)?.take()
    }

    /// What a power loss leaves: see [`LogicalUnit::lose_power`](crate::LogicalUnit::lose_power).
    pub(crate) fn lose_power(&mut self) {
        if !self.aptpl {
            self.registrations.clear();
            self.reservation = None;
        }
        self.generation = PrGeneration::default();
        for queue in &mut self.attentions {
            queue.clear();
            queue.establish(UnitAttention::PowerOn);
        }
    }
}

/// What [`State::unregister`] has taken away.
#[derive(Debug)]
pub(crate) struct Unregistered {
    /// Those that were registered, in the order in which they were.
    pub(crate) nexuses: Vec<NexusId>,
    /// The reservation that went with its last holder.
    pub(crate) reservation: Option<Reservation>,
}
