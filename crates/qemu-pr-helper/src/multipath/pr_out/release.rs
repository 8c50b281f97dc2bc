// SPDX-License-Identifier: MIT OR Apache-2.0

//! RELEASE: only the nexus that holds a reservation can end it, and it is not known which path that
//! is.

use scsi_pr::{AdditionalSense, ReservationKey, SenseKey, Status};

use super::send::is_not_registered;
use super::{ExecutionResult, GuestCommand, PrKeyStore, PrOut, PrPath, unreachable_unit};
use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Sends RELEASE to every path. On a nexus that is registered and holds nothing, the command
    /// has no effect and its status is GOOD.
    pub(super) fn release(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        let (mut good, mut rejected, mut unreachable) = (None, None, None);
        for path in 0..self.paths.len() {
            // Until one path has answered, a unit attention is for the guest.
            let outcome = match good.or(rejected) {
                None => self.send(path, guest.command),
                Some(_) => self.send_with_retry(path, guest.command),
            };
            match outcome {
                TransportOutcome::Completed(result) => match result.status {
                    // The path released the reservation, or held none.
                    Status::GOOD => good = Some(result),
                    _ if is_not_registered(&result) => rejected = Some(result),
                    // Usually the holder reports that the scope or the type is wrong.
                    _ => return Err(result),
                },
                TransportOutcome::NotDelivered(result) | TransportOutcome::Unknown(result) => {
                    unreachable = Some(result);
                }
            }
        }
        let Some(good) = good else {
            return Err(rejected.or(unreachable).unwrap_or_else(unreachable_unit));
        };
        if let Some(rejected) = rejected
            && self.is_own_reservation(guest.key)
        {
            return Err(rejected);
        }
        match self.held_by_unreachable(guest.key) {
            None => {}
            Some(held) if held != guest.scope_type => {
                return Err(CommandResult::check_condition(
                    SenseKey::IllegalRequest,
                    AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION,
                ));
            }
            Some(_) => self.release_unreachable(guest)?,
        }
        self.drain_unit_attentions(None);
        self.key_store.set_holding(false);
        self.warn_if_still_reserved(guest.key);
        Ok(good)
    }

    /// Warns about a reservation of a path that was removed from the map. A preemption could end
    /// it, but it cannot be distinguished from that of another host with the same key.
    fn warn_if_still_reserved(&mut self, key: ReservationKey) {
        if !key.is_zero() && self.reservation().is_some_and(|held| held.key == key) {
            self.warnings.push(format!(
                "released, but a reservation with key {key} remains, held by a removed path or by \
                 another host"
            ));
        }
    }

    /// Returns whether the path that rejected RELEASE is the holder. LIO replies to a holder with a
    /// wrong key or type with RESERVATION CONFLICT, and to a nexus that holds nothing with GOOD,
    /// even if the key is wrong. A path that rejects RELEASE can also be one that has returned and
    /// is not registered yet; in that case, the reservation belongs to another initiator.
    fn is_own_reservation(&mut self, key: ReservationKey) -> bool {
        if self.unreachable.contains(&true) {
            return false;
        }
        let Some(held) = self.reservation() else {
            return false;
        };
        let stored = self.key_store.key().ok().flatten();
        held.key == key || stored.is_some_and(|stored| stored.key == held.key)
    }
}
