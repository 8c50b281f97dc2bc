//! Paths that cannot be reached, and what they leave behind on the logical unit: registrations, and perhaps
//! the reservation.
//!
//! Only a nexus itself can give these up. Others can preempt them, and that is by key: it hits everybody who
//! has it. So it is done only where the guest has shown that the key is its own, and where no more
//! registrations are left with it than paths are away. What is left otherwise, the log says.

use scsi_pr::{
    BasicParameterList, Capabilities, InServiceAction, Keys, ReservationData,
    ReservationDescriptor, ReservationKey, ScopeType, Status,
};

use super::send::is_good;
use super::{Keeper, Order, Path, Spread};
use crate::command::executor::CommandResult;

/// Bytes that READ RESERVATION gives.
const RESERVATION_LENGTH: u16 = 24;

/// Bytes for READ KEYS: as many keys as the protocol with QEMU has room for.
const KEYS_LENGTH: u16 = 8192;

/// Bytes that REPORT CAPABILITIES gives.
const CAPABILITIES_LENGTH: u16 = 8;

/// A type for a PREEMPT that finds no reservation: Write Exclusive - Registrants Only of the logical unit.
const UNUSED_TYPE: ScopeType = ScopeType(0x05);

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// Scope and type of the reservation that a path with `key` holds which cannot be reached.
    pub(super) fn held_by_absent(&mut self, key: ReservationKey) -> Option<ScopeType> {
        if key.is_zero() || self.absent() == 0 {
            return None;
        }
        let held = self.reservation().filter(|held| held.key == key)?;
        let registered = self.registrations(key)?;
        (registered <= self.paths.len()).then_some(held.scope_type)
    }

    /// Ends a reservation that a path holds which cannot be reached.
    ///
    /// A path that can be reached preempts it, which makes it the holder, and releases. The standard has
    /// no other way that leaves other initiators' registrations alone. It costs the registrations of our
    /// other paths, which are made anew; those that are away are multipathd's to make.
    ///
    /// # Errors
    ///
    /// The answer of a path that has refused.
    pub(super) fn release_for_absent(
        &mut self,
        release: &Order,
        kind: ScopeType,
        key: ReservationKey,
    ) -> Result<(), CommandResult> {
        let flags = self.flags();
        let (holder, outcome) = self.by_one(&Order::preempt(key, key, kind));
        let holder = holder.ok_or(outcome)?;
        let released = self.insist(holder, release);
        if !is_good(&released) {
            // Somebody else was faster, and means us.
            return Err(released.into_result());
        }
        self.register_others(holder, key, &flags);
        Ok(())
    }

    /// Takes the registrations of paths away that cannot be reached, and with them a reservation that one
    /// of them holds. For that, the first path registers once more with the same key, which a REGISTER has
    /// named: `None` after a REGISTER AND IGNORE EXISTING KEY.
    pub(super) fn unregister_absent(
        &mut self,
        first: usize,
        key: Option<ReservationKey>,
        flags: &BasicParameterList,
    ) {
        let absent = self.absent();
        let Some(key) = key else {
            if absent > 0 {
                self.remarks.push(format!(
                    "{absent} of its paths cannot be reached, and may still be registered"
                ));
            }
            return;
        };
        let left = self.registrations(key);
        if left == Some(0) {
            return;
        }
        let is_ours = left.is_some_and(|left| left <= absent);
        if !is_ours || !self.preempt_absent(first, key, flags) {
            self.remarks.push(format!(
                "unregistered, but there are registrations with its key {key}: of paths that cannot be \
                 reached ({absent}), of paths that are not there any more, or of other hosts"
            ));
        }
    }

    fn preempt_absent(
        &mut self,
        first: usize,
        key: ReservationKey,
        flags: &BasicParameterList,
    ) -> bool {
        let kind = self.type_for_preempt();
        let register = Order::registration(ReservationKey::ZERO, key, flags);
        if !is_good(&self.insist(first, &register)) {
            return false;
        }
        let preempted = self.insist(first, &Order::preempt(key, key, kind));
        let unregister = Order::registration(key, ReservationKey::ZERO, flags);
        // It may have been preempted with the others.
        let outcome = self.insist(first, &unregister).into_result();
        if !matches!(outcome.status, Status::GOOD | Status::RESERVATION_CONFLICT) {
            let text = format!("is registered with key {key}, although it was to be unregistered");
            self.remark_on(first, &text);
        }
        is_good(&preempted)
    }

    /// The guest has a new key, and paths that cannot be reached have the old one. They must not keep it:
    /// whoever fences this host preempts the key that he sees in use, and one of them may hold the
    /// reservation, which then could not be released.
    pub(super) fn preempt_old_key(
        &mut self,
        first: usize,
        old: ReservationKey,
        new: ReservationKey,
    ) {
        let absent = self.absent();
        if old.is_zero() || absent == 0 {
            return;
        }
        let left = self.registrations(old);
        if left == Some(0) {
            return;
        }
        let kind = self.type_for_preempt();
        let is_ours = left.is_some_and(|left| left <= absent);
        if !is_ours || !is_good(&self.insist(first, &Order::preempt(new, old, kind))) {
            self.remarks.push(format!(
                "{absent} of its paths cannot be reached, and may still be registered with the old key {old}"
            ));
        }
    }

    /// How many paths cannot be reached.
    fn absent(&self) -> usize {
        self.lost.iter().filter(|lost| **lost).count()
    }

    /// A PREEMPT makes a reservation of this type if it finds one; then it is to stay as it is.
    fn type_for_preempt(&mut self) -> ScopeType {
        self.reservation()
            .map_or(UNUSED_TYPE, |held| held.scope_type)
    }

    /// The reservation, if there is one and a path to ask.
    pub(super) fn reservation(&mut self) -> Option<ReservationDescriptor> {
        let data = self.read(InServiceAction::ReadReservation, RESERVATION_LENGTH)?;
        ReservationData::decode(&data).ok()?.reservation
    }

    /// How many registrations there are with `key`.
    fn registrations(&mut self, key: ReservationKey) -> Option<usize> {
        let data = self.read(InServiceAction::ReadKeys, KEYS_LENGTH)?;
        let keys = Keys::decode(&data).ok()?.complete()?;
        Some(keys.keys.iter().filter(|other| **other == key).count())
    }

    /// What a registration that is made again says beside the key: what the logical unit does already. The
    /// last one that it gets decides for all.
    pub(super) fn flags(&mut self) -> BasicParameterList {
        let data = self.read(InServiceAction::ReportCapabilities, CAPABILITIES_LENGTH);
        let capabilities = data.and_then(|data| Capabilities::decode(&data).ok());
        BasicParameterList {
            aptpl: capabilities
                .is_some_and(|capabilities| capabilities.persist_through_power_loss_active),
            ..BasicParameterList::default()
        }
    }
}
