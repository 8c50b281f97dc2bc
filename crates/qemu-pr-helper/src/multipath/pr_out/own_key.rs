// SPDX-License-Identifier: MIT OR Apache-2.0

//! PREEMPT of this host's own key.
//!
//! The command makes its sender the holder of the reservation and removes all other registrations
//! with the key, including those of the other paths. Writes through these paths would fail with
//! RESERVATION CONFLICT until the paths are registered again. Therefore, the other reachable paths
//! have a temporary key while the command is executed: each path is registered at any time.
//!
//! The sender keeps the key, so that another host can still preempt it. A path that holds the
//! reservation must be the sender: if the holder had another key, the command would remove the
//! sender's registration and leave the reservation. While the paths take the temporary key one by
//! one, READ RESERVATION shows which of them is the holder.

use helper_state::PathRegistration;
use scsi_pr::{ReservationKey, ScopeType, Status};

use super::send::{completed, conflict, is_success};
use super::{PrKeyStore, PrOut, PrOutCommand, PrPath, RegisterParams, unreachable_unit};
use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

/// Bits in which the temporary key differs from a key: `prhelper` in ASCII. A path keeps the
/// temporary key if the worker is killed, and can be recognized by it.
const TEMPORARY_KEY_BITS: u64 = u64::from_be_bytes(*b"prhelper");

/// Returns the temporary key of a host with `key`; never zero.
pub(super) fn temporary_key(key: ReservationKey) -> ReservationKey {
    match key.get() ^ TEMPORARY_KEY_BITS {
        0 => ReservationKey::new(!key.get()),
        temporary => ReservationKey::new(temporary),
    }
}

/// Keys of the paths while the own key is preempted.
#[derive(Default)]
struct TemporaryKeys {
    /// The path that keeps its key: the holder if one of the paths is.
    sender: Option<usize>,
    /// The paths with the temporary key.
    changed: Vec<usize>,
    /// A path that has lost its key meanwhile, and its answer. Another host has preempted the key,
    /// and did not reach the paths that had the temporary key then.
    fenced: Option<(usize, CommandResult)>,
}

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Makes a reachable path the holder of a reservation that an unreachable path holds with
    /// `key`. Returns the new holder.
    pub(super) fn take_over(
        &mut self,
        key: ReservationKey,
        scope_type: ScopeType,
    ) -> Result<usize, CommandResult> {
        let preempt = PrOutCommand::preempt(key, key, scope_type);
        let (holder, _) = self.preempt_own_key(&preempt, key)?;
        Ok(holder)
    }

    /// Sends `preempt`, which preempts `key` and is sent with it, while all reachable paths remain
    /// registered. Returns the path that executed the command, and the result.
    ///
    /// The preemption removes the registrations of unreachable paths; multipathd registers them
    /// when they return.
    pub(super) fn preempt_own_key(
        &mut self,
        preempt: &PrOutCommand,
        key: ReservationKey,
    ) -> Result<(usize, CommandResult), CommandResult> {
        let registration = self.current_registration(key);
        let temporary = RegisterParams {
            key: temporary_key(key),
            ..registration
        };
        let registered: Vec<_> = (0..self.paths.len())
            .filter(|path| match self.has_registration(*path, registration) {
                // A worker may have been killed before it restored the key.
                Some(false) => is_success(self.send_register(*path, temporary.key, registration)),
                has_registration => has_registration == Some(true),
            })
            .collect();
        let TemporaryKeys {
            sender,
            changed,
            fenced,
        } = self.set_temporary_key(&registered, registration, temporary);
        if let Some((path, conflict)) = fenced {
            for path in changed {
                self.send_register(path, temporary.key, temporary.unregister());
            }
            self.unregister_fenced(path, registration);
            return Err(conflict);
        }
        let Some(sender) = sender else {
            return self.first_success(preempt);
        };
        // A path that holds the reservation can fail while it has the temporary key. In that case,
        // the sender takes the reservation over, and the guest repeats its command.
        let outcome = match self.is_held_with(temporary.key) {
            true => TransportOutcome::NotDelivered(unreachable_unit()),
            false => self.send_with_retry(sender, preempt),
        };
        let with_key = self.restore_keys(sender, &changed, registration, temporary);
        if is_success(outcome) {
            // The command has removed the registrations of the other paths.
            self.set_registered(&with_key, PathRegistration::NotRegistered);
        }
        if self.is_fenced(sender, registration) {
            self.unregister_fenced(sender, registration);
        }
        match is_success(outcome) {
            true => Ok((sender, outcome.into_result())),
            false => Err(outcome.into_result()),
        }
    }

    /// Registers the paths `changed` with their key again. The sender removes the temporary key of
    /// paths that have failed. Returns the paths with the key.
    fn restore_keys(
        &mut self,
        sender: usize,
        changed: &[usize],
        registration: RegisterParams,
        temporary: RegisterParams,
    ) -> Vec<usize> {
        let key = registration.key;
        let mut has_failed = false;
        let mut registered = vec![sender];
        for &path in changed {
            match completed(self.send_register(path, temporary.key, registration)) {
                None => has_failed = true,
                Some(result) if result.status == Status::GOOD => registered.push(path),
                Some(CommandResult { status, .. }) => {
                    self.warn_path(path, &format!("not re-registered with key {key}: {status}"));
                }
            }
        }
        if has_failed {
            let scope_type = self.current_scope_type();
            let preempt = PrOutCommand::preempt(key, temporary.key, scope_type);
            self.send_with_retry(sender, &preempt);
        }
        registered
    }

    fn is_held_with(&mut self, key: ReservationKey) -> bool {
        self.reservation().is_some_and(|held| held.key == key)
    }

    /// Registers all but one of the paths `registered` with the temporary key.
    fn set_temporary_key(
        &mut self,
        registered: &[usize],
        registration: RegisterParams,
        temporary: RegisterParams,
    ) -> TemporaryKeys {
        let mut keys = TemporaryKeys::default();
        for (index, &path) in registered.iter().enumerate() {
            let is_last = index.saturating_add(1) == registered.len();
            if is_last && keys.sender.is_none() {
                keys.sender = Some(path);
                break;
            }
            // A path that does not answer can have the temporary key too.
            let outcome = self.send_register(path, registration.key, temporary);
            if let Some(conflict) = conflict(outcome) {
                keys.fenced = Some((path, conflict));
                break;
            }
            if completed(outcome).is_some_and(|result| result.status != Status::GOOD) {
                continue;
            }
            let is_holder = keys.sender.is_none() && self.is_held_with(temporary.key);
            if is_holder && is_success(self.send_register(path, temporary.key, registration)) {
                keys.sender = Some(path);
            } else {
                keys.changed.push(path);
            }
        }
        keys
    }
}
