// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removal of the registrations of all paths. A reservation of this host ends first, because writes
//! through a path that is not registered fail while the reservation remains.

use scsi_pr::{OutServiceAction, ReservationKey, ReservationType, ScopeType, Status};

use super::register::is_plain;
use super::send::{completed, conflict, is_not_registered};
use super::{
    ExecutionResult, GuestCommand, PrKeyStore, PrOut, PrOutCommand, PrPath, RegisterParams,
};
use crate::command::executor::CommandResult;

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Removes all registrations. This does not require multipathd.
    pub(super) fn unregister(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        let stored = match guest.old_key() {
            Some(_) => None,
            None => self.key_store.key().ok().flatten(),
        };
        let key = self.previous_key(guest, stored)?;
        if let Some(key) = key
            && self.paths.len() > 1
            && is_plain(guest.command)
        {
            self.release_before_unregister(key)?;
        }
        let before = match guest.old_key() {
            Some(key) if guest.new.all_tg_pt => {
                // Reports a pending unit attention, which counting would drop.
                self.reservation_for_guest()?;
                self.registration_count(key)
            }
            _ => None,
        };
        let (first, result) = self.register_first(guest).or_else(|result| {
            let path = self.find_unregistered(guest, &result, before);
            let path = path.ok_or(result)?;
            Ok((path, CommandResult::from_status(Status::GOOD)))
        })?;
        self.disable_key_store();
        let command = PrOutCommand::new(guest.action, ScopeType(0), guest.key, guest.new);
        self.unregister_others(first, &command, guest.new.aptpl)?;
        self.unregister_unreachable(first, key, guest.new);
        self.set_unregistered();
        Ok(result)
    }

    /// Ends the reservation if a single nexus with `key` would end it by unregistering. Otherwise
    /// writes through the paths that are unregistered first would fail. If no path is registered
    /// with `key`, nothing changes.
    ///
    /// # Errors
    ///
    /// Returns a pending unit attention, which is for the guest.
    fn release_before_unregister(&mut self, key: ReservationKey) -> Result<(), CommandResult> {
        let Some(held) = self.reservation_for_guest()? else {
            return Ok(());
        };
        let kind = held.scope_type.reservation_type();
        let is_own = match kind.is_some_and(ReservationType::is_all_registrants) {
            true => self.is_only_registrant(key),
            false => held.key == key,
        };
        let flags = RegisterParams::default();
        let release = PrOutCommand::new(OutServiceAction::Release, held.scope_type, key, flags);
        if is_own && let Some(release) = GuestCommand::decode(&release) {
            // The guest gets the result of the command that unregisters. A path that takes the
            // reservation over from an unreachable one can fail before it releases it.
            for _ in 0..self.paths.len() {
                match self.release(&release) {
                    Err(result) if !is_not_registered(&result) => {}
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Returns a path that a command with `ALL_TG_PT` on another path has unregistered although its
    /// reply was lost: there are fewer registrations with the key than `before`.
    fn find_unregistered(
        &mut self,
        guest: &GuestCommand<'_>,
        result: &CommandResult,
        before: Option<usize>,
    ) -> Option<usize> {
        let (before, now) = (before?, self.registration_count(guest.key)?);
        let is_removed = self.has_lost_reply && now < before;
        if result.status != Status::RESERVATION_CONFLICT || !is_removed {
            return None;
        }
        (0..self.paths.len()).find(|path| self.is_unregistered(*path))
    }

    /// Sends a command that removes the registration to all paths except `first`. A path with
    /// another key loses it too.
    ///
    /// Returns the result of a path that keeps its registration as an error. When the guest tries
    /// again, that path is the first one.
    pub(super) fn unregister_others(
        &mut self,
        first: usize,
        command: &PrOutCommand,
        aptpl: bool,
    ) -> Result<(), CommandResult> {
        let unregister = PrOutCommand::register_and_ignore(RegisterParams {
            aptpl,
            ..RegisterParams::default()
        });
        for path in self.other_paths(first) {
            let mut outcome = self.send_with_retry(path, command);
            // The path may have been unregistered already.
            if conflict(outcome).is_some()
                && self.has_registration(path, RegisterParams::default()) == Some(false)
            {
                outcome = self.send_with_retry(path, &unregister);
            }
            match completed(outcome) {
                Some(result)
                    if !matches!(result.status, Status::GOOD | Status::RESERVATION_CONFLICT) =>
                {
                    return Err(result);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
