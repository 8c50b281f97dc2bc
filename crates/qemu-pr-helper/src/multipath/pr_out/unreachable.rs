// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths that cannot be reached, and the state that they leave on the logical unit: registrations,
//! and possibly the reservation.
//!
//! Only the nexus itself can give up this state. Other paths can preempt it, but a preemption
//! selects registrations by key and removes all that have it. So a path preempts only if the guest
//! has proved that the key is its own, and if there are no more registrations with it than
//! unreachable paths. In all other cases, the log names the state that remains.

use std::iter;

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
    /// multipathd does not know a reservation yet that this command has made before a path failed.
    pub(super) fn held_by_unreachable(&mut self, key: ReservationKey) -> Option<ScopeType> {
        if key.is_zero() || self.unreachable_count() == 0 {
            return None;
        }
        let held = self.reservation().filter(|held| held.key == key)?;
        let registered = self.registration_count(key)?;
        let is_own = registered <= self.paths.len()
            && (self.has_lost_reply || self.key_store.is_holding() != Some(false));
        is_own.then_some(held.scope_type)
    }

    /// Returns whether another host holds the reservation with `key`, according to multipathd.
    fn is_held_by_other(&mut self, key: ReservationKey) -> bool {
        self.reservation().is_some_and(|held| held.key == key)
            && self.key_store.is_holding() == Some(false)
    }

    /// Ends a reservation that an unreachable path holds.
    ///
    /// A reachable path takes it over and releases it. The standard has no other way that preserves
    /// the registrations of other initiators.
    pub(super) fn release_unreachable(
        &mut self,
        release: &GuestCommand<'_>,
    ) -> Result<(), CommandResult> {
        let holder = self.take_over(release.key, release.scope_type)?;
        let released = self.send_with_retry(holder, release.command);
        match is_success(released) {
            true => Ok(()),
            // Another initiator has preempted this path between PREEMPT and RELEASE.
            false => Err(released.into_result()),
        }
    }

    /// Removes the registrations of unreachable paths, and with them a reservation that one of
    /// these paths holds. For that, the path `first`, or another one if it fails, registers once
    /// more with `key`. If the key of this host is not known, the registrations remain.
    pub(super) fn unregister_unreachable(
        &mut self,
        first: usize,
        key: Option<ReservationKey>,
        new: RegisterParams,
    ) {
        let unreachable = self.unreachable_count();
        let Some(key) = key else {
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
        let is_own = left.is_some_and(|left| left <= unreachable) && !self.is_held_by_other(key);
        let registration = RegisterParams { key, ..new };
        let mut paths = iter::once(first).chain(self.other_paths(first));
        if !is_own || !paths.any(|path| self.preempt_unreachable(path, registration)) {
            self.warnings.push(format!(
                "unregistered, but registrations with key {key} remain: of unreachable paths \
                 ({unreachable}), of removed paths, or of other hosts"
            ));
        }
    }

    fn preempt_unreachable(&mut self, path: usize, registration: RegisterParams) -> bool {
        let key = registration.key;
        let scope_type = self.current_scope_type();
        if !is_success(self.send_register(path, ReservationKey::ZERO, registration)) {
            return false;
        }
        let preempt = PrOutCommand::preempt(key, key, scope_type);
        let preempted = self.send_with_retry(path, &preempt);
        let unregistered = self.send_register(path, key, registration.unregister());
        // RESERVATION CONFLICT: the PREEMPT has removed this registration too.
        let status = unregistered.into_result().status;
        if !matches!(status, Status::GOOD | Status::RESERVATION_CONFLICT) {
            let text = format!("is registered with key {key} although it was to be unregistered");
            self.warn_path(path, &text);
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
        let is_own = left.is_some_and(|left| left <= unreachable) && !self.is_held_by_other(old);
        // A path that fails after it has executed the command is followed by one without effect.
        let mut paths = iter::once(first).chain(self.other_paths(first));
        if !is_own
            || !paths.any(|path| {
                is_success(self.send_with_retry(path, &preempt))
                    || self.registration_count(old) == Some(0)
            })
        {
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
    pub(super) fn current_scope_type(&mut self) -> ScopeType {
        self.reservation()
            .map_or(UNUSED_TYPE, |held| held.scope_type)
    }

    /// Returns the reservation; `None` if there is none or no path can be reached.
    pub(super) fn reservation(&mut self) -> Option<ReservationDescriptor> {
        let data = self.read(InServiceAction::ReadReservation, RESERVATION_LENGTH)?;
        ReservationData::decode(&data).ok()?.reservation
    }

    /// Returns the reservation, as [`PrOut::reservation`] does, before the guest's command is sent.
    ///
    /// # Errors
    ///
    /// Returns a pending unit attention, which is for the guest.
    pub(super) fn reservation_for_guest(
        &mut self,
    ) -> Result<Option<ReservationDescriptor>, CommandResult> {
        let action = InServiceAction::ReadReservation;
        let data = self.read_for_guest(action, RESERVATION_LENGTH)?;
        let data = data.and_then(|data| ReservationData::decode(&data).ok());
        Ok(data.and_then(|data| data.reservation))
    }

    /// Returns whether all registrations have `key`, and there are not more than paths.
    pub(super) fn is_only_registrant(&mut self, key: ReservationKey) -> bool {
        let limit = self.paths.len();
        self.keys()
            .is_some_and(|keys| keys.len() <= limit && keys.iter().all(|other| *other == key))
    }

    /// Returns the number of registrations with `key`; `None` if it cannot be determined.
    pub(super) fn registration_count(&mut self, key: ReservationKey) -> Option<usize> {
        let keys = self.keys()?;
        Some(keys.iter().filter(|other| **other == key).count())
    }

    /// Returns the key of each registration; `None` if a path reports not all of them.
    fn keys(&mut self) -> Option<Vec<ReservationKey>> {
        let data = self.read(InServiceAction::ReadKeys, KEYS_LENGTH)?;
        Some(Keys::decode(&data).ok()?.complete()?.keys)
    }

    /// Returns a registration to be repeated with `key`. Its flags must match the current setting
    /// of the logical unit, because the last REGISTER decides for all registrations.
    pub(super) fn current_registration(&mut self, key: ReservationKey) -> RegisterParams {
        RegisterParams {
            key,
            all_tg_pt: false,
            aptpl: self.current_aptpl().unwrap_or_default(),
        }
    }

    /// Returns whether registrations persist through a power loss; `None` without a reply.
    pub(super) fn current_aptpl(&mut self) -> Option<bool> {
        let data = self.read(InServiceAction::ReportCapabilities, CAPABILITIES_LENGTH)?;
        let capabilities = Capabilities::decode(&data).ok()?;
        Some(capabilities.persist_through_power_loss_active)
    }
}
