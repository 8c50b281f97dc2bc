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
//! sender's registration and leave the reservation. While the paths take the temporary key one after
//! another, READ RESERVATION shows which of them is the holder.

use scsi_pr::{ReservationKey, ScopeType, Status};

use super::send::{completed, is_success};
use super::{PrKeyStore, PrOut, PrOutCommand, PrPath, RegisterParams};
use crate::command::executor::CommandResult;

/// Bits in which the temporary key differs from a key: `prhelper` in ASCII. A path that keeps the
/// temporary key, because a worker was killed, can be recognized by them.
const TEMPORARY_KEY_BITS: u64 = u64::from_be_bytes(*b"prhelper");

/// Returns the temporary key of a host with `key`; never zero.
fn temporary_key(key: ReservationKey) -> ReservationKey {
    match key.get() ^ TEMPORARY_KEY_BITS {
        0 => ReservationKey::new(!key.get()),
        temporary => ReservationKey::new(temporary),
    }
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
        let registered: Vec<_> = (0..self.paths.len())
            .filter(|path| self.has_registration(*path, registration) == Some(true))
            .collect();
        let temporary = RegisterParams {
            key: temporary_key(key),
            ..registration
        };
        let (sender, changed) = self.set_temporary_key(&registered, registration, temporary);
        let Some(sender) = sender else {
            return self.first_success(preempt);
        };
        let outcome = self.send_with_retry(sender, preempt);
        for path in changed {
            let registered = self.send_register(path, temporary.key, registration);
            if let Some(CommandResult { status, .. }) = completed(registered)
                && status != Status::GOOD
            {
                self.warn_path(path, &format!("not re-registered with key {key}: {status}"));
            }
        }
        if self.is_fenced(sender, registration) {
            self.unregister_fenced(sender, registration);
        }
        match is_success(outcome) {
            true => Ok((sender, outcome.into_result())),
            false => Err(outcome.into_result()),
        }
    }

    /// Registers all but one of the paths `registered` with the temporary key. Returns the path that
    /// keeps its key, which is the holder if one of the paths is, and the paths with the temporary
    /// key.
    fn set_temporary_key(
        &mut self,
        registered: &[usize],
        registration: RegisterParams,
        temporary: RegisterParams,
    ) -> (Option<usize>, Vec<usize>) {
        let (mut sender, mut changed) = (None, Vec::new());
        for (index, &path) in registered.iter().enumerate() {
            let is_last = index.saturating_add(1) == registered.len();
            if is_last && sender.is_none() {
                sender = Some(path);
                break;
            }
            if !is_success(self.send_register(path, registration.key, temporary)) {
                continue;
            }
            let is_holder = sender.is_none()
                && self
                    .reservation()
                    .is_some_and(|held| held.key == temporary.key);
            if is_holder && is_success(self.send_register(path, temporary.key, registration)) {
                sender = Some(path);
            } else {
                changed.push(path);
            }
        }
        (sender, changed)
    }
}
