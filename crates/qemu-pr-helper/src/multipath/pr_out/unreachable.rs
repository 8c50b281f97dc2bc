// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths that cannot be reached, and the state that they leave on the logical unit: registrations,
//! and possibly the reservation.
//!
//! Only the nexus itself can give up this state. Other paths can preempt it, but a preemption
//! selects registrations by key and removes all that have it. So a path preempts only if the guest
//! has proved that the key is its own, and if there are no more registrations with it than
//! unreachable paths. In all other cases, the log names the state that remains.

use scsi_pr::{
    Capabilities, InServiceAction, Keys, ReservationData, ReservationDescriptor, ReservationKey,
    ScopeType, Status,
};

use super::send::{RESERVATION_LENGTH, is_success};
use super::{GuestCommand, PrKeyStore, PrOut, PrOutCommand, PrPath, RegisterParams};
use crate::command::executor::CommandResult;

/// Allocation length for READ KEYS in bytes: the maximum of the protocol with QEMU.
const KEYS_LENGTH: u16 = 8192;

/// Length of the reply to REPORT CAPABILITIES in bytes.
const CAPABILITIES_LENGTH: u16 = 8;

/// Type for a PREEMPT that finds no reservation: Write Exclusive - Registrants Only, scope logical
/// unit.
const UNUSED_TYPE: ScopeType = ScopeType(0x05);

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Returns scope and type of the reservation if an unreachable path with `key` holds it.
    pub(super) fn held_by_unreachable(&mut self, key: ReservationKey) -> Option<ScopeType> {
        if key.is_zero() || self.unreachable_count() == 0 {
            return None;
        }
        let held = self.reservation().filter(|held| held.key == key)?;
        let registered = self.registration_count(key)?;
        (registered <= self.paths.len()).then_some(held.scope_type)
    }

    /// Ends a reservation that an unreachable path holds.
    ///
    /// A reachable path preempts it, which makes that path the holder, and releases it. The
    /// standard has no other way that preserves the registrations of other initiators. The
    /// preemption removes the registrations of the other paths of this map. Reachable ones are
    /// registered again here; multipathd registers the others when they return.
    pub(super) fn release_unreachable(
        &mut self,
        release: &GuestCommand<'_>,
    ) -> Result<(), CommandResult> {
        let registration = self.current_registration(release.key);
        let preempt = PrOutCommand::preempt(release.key, release.key, release.scope_type);
        let (holder, _) = self.first_success(&preempt)?;
        let released = self.send_with_retry(holder, release.command);
        if !is_success(released) {
            // Another initiator has preempted this path between PREEMPT and RELEASE.
            return Err(released.into_result());
        }
        self.register_others(holder, registration);
        Ok(())
    }

    /// Removes the registrations of unreachable paths, and with them a reservation that one of
    /// these paths holds. For that, the path `first` registers once more with the key that REGISTER
    /// has named; REGISTER AND IGNORE EXISTING KEY names none.
    pub(super) fn unregister_unreachable(&mut self, first: usize, guest: &GuestCommand<'_>) {
        let unreachable = self.unreachable_count();
        let Some(key) = guest.old_key() else {
            if unreachable > 0 {
                self.warnings.push(format!(
                    "{unreachable} unreachable paths may still be registered"
                ));
            }
            return;
        };
        let left = self.registration_count(key);
        if left == Some(0) {
            return;
        }
        let is_own = left.is_some_and(|left| left <= unreachable);
        if !is_own || !self.preempt_unreachable(first, RegisterParams { key, ..guest.new }) {
            self.warnings.push(format!(
                "unregistered, but registrations with key {key} remain: of unreachable paths \
                 ({unreachable}), of removed paths, or of other hosts"
            ));
        }
    }

    fn preempt_unreachable(&mut self, first: usize, registration: RegisterParams) -> bool {
        let key = registration.key;
        let scope_type = self.current_scope_type();
        if !is_success(self.send_register(first, ReservationKey::ZERO, registration)) {
            return false;
        }
        let preempt = PrOutCommand::preempt(key, key, scope_type);
        let preempted = self.send_with_retry(first, &preempt);
        let unregistered = self.send_register(first, key, registration.unregister());
        // RESERVATION CONFLICT: the PREEMPT has removed this registration too.
        let status = unregistered.into_result().status;
        if !matches!(status, Status::GOOD | Status::RESERVATION_CONFLICT) {
            let text = format!("is registered with key {key} although it was to be unregistered");
            self.warn_path(first, &text);
        }
        is_success(preempted)
    }

    /// Removes the old key from unreachable paths after the guest has registered a new key.
    ///
    /// These paths must not keep the old key: a host that fences this one preempts the key that it
    /// sees in use. And one of these paths may hold the reservation, which could not be released
    /// then.
    pub(super) fn preempt_old_key(
        &mut self,
        first: usize,
        old: ReservationKey,
        new: ReservationKey,
    ) {
        let unreachable = self.unreachable_count();
        if old.is_zero() || unreachable == 0 {
            return;
        }
        let left = self.registration_count(old);
        if left == Some(0) {
            return;
        }
        let preempt = PrOutCommand::preempt(new, old, self.current_scope_type());
        let is_own = left.is_some_and(|left| left <= unreachable);
        if !is_own || !is_success(self.send_with_retry(first, &preempt)) {
            self.warnings.push(format!(
                "{unreachable} unreachable paths may still be registered with the old key {old}"
            ));
        }
    }

    fn unreachable_count(&self) -> usize {
        self.unreachable.iter().filter(|lost| **lost).count()
    }

    /// Returns the scope and type for a PREEMPT. If there is a reservation, the PREEMPT replaces it
    /// with one of this scope and type, so they must be the current ones.
    fn current_scope_type(&mut self) -> ScopeType {
        self.reservation()
            .map_or(UNUSED_TYPE, |held| held.scope_type)
    }

    /// Returns the reservation; `None` if there is none or no path can be reached.
    pub(super) fn reservation(&mut self) -> Option<ReservationDescriptor> {
        let data = self.read(InServiceAction::ReadReservation, RESERVATION_LENGTH)?;
        ReservationData::decode(&data).ok()?.reservation
    }

    /// Returns the number of registrations with `key`; `None` if it cannot be determined.
    fn registration_count(&mut self, key: ReservationKey) -> Option<usize> {
        let data = self.read(InServiceAction::ReadKeys, KEYS_LENGTH)?;
        let keys = Keys::decode(&data).ok()?.complete()?;
        Some(keys.keys.iter().filter(|other| **other == key).count())
    }

    /// Returns a registration to be repeated with `key`. Its flags must match the current setting
    /// of the logical unit, because the last REGISTER decides for all registrations.
    pub(super) fn current_registration(&mut self, key: ReservationKey) -> RegisterParams {
        let data = self.read(InServiceAction::ReportCapabilities, CAPABILITIES_LENGTH);
        let capabilities = data.and_then(|data| Capabilities::decode(&data).ok());
        RegisterParams {
            key,
            all_tg_pt: false,
            aptpl: capabilities
                .is_some_and(|capabilities| capabilities.persist_through_power_loss_active),
        }
    }
}
