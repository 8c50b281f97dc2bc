// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations: each path has its own, and all must have the same key.

use helper_state::PathRegistration;
use scsi_pr::{AdditionalSense, ReservationKey, Sense, SenseKey, Status};

use super::own_key::temporary_key;
use super::send::{completed, conflict, is_success};
use super::{
    ExecutionResult, GuestCommand, PrKey, PrKeyStore, PrKeyStoreError, PrOut, PrOutCommand, PrPath,
    RegisterParams, unreachable_unit,
};
use crate::command::executor::CommandResult;

/// Index of the byte with `SPEC_I_PT` in the parameter list, and the bit (SPC-4, 6.16.3).
const SPEC_I_PT: (usize, u8) = (20, 0x08);

/// Length of a parameter list without TransportIDs in bytes.
const BASIC_LIST_LEN: usize = 24;

/// Path that has the new key, and its key before that. Zero stands for no registration; `None`
/// means that the key is unknown, because REGISTER AND IGNORE EXISTING KEY does not name it.
type RegisteredPath = (usize, Option<ReservationKey>);

/// Result of registering one more path.
enum RegisterOutcome {
    /// The path has the new key. Before, it had this one.
    Registered(Option<ReservationKey>),
    /// The path cannot be reached.
    Unreachable,
    /// The path rejected the command.
    Rejected(CommandResult),
    /// Another initiator has preempted the old key of the path during this command.
    Fenced(CommandResult),
}

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Executes REGISTER and REGISTER AND IGNORE EXISTING KEY.
    pub(super) fn register(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        if guest.new.key.is_zero() {
            return match guest.old_key() {
                // A nexus that is not registered remains unregistered.
                Some(ReservationKey::ZERO) => {
                    self.first_success(guest.command).map(|(_, result)| result)
                }
                _ => self.unregister(guest),
            };
        }
        let before = self.key_store.key();
        let before = before.map_err(|error| self.key_store_failed(&error))?;
        let key = guest.pr_key();
        // Clusters register the same key repeatedly.
        let is_changed = before != Some(key);
        // Send multipathd the key first: if it rejects the key, no path has been changed yet.
        if is_changed && let Err(error) = self.key_store.set_key(key) {
            self.restore_key(before);
            return Err(self.key_store_failed(&error));
        }
        let result = self.register_paths(guest, before);
        if is_changed && !self.was_fenced {
            match result {
                Ok(_) => {
                    let result = self.enable_key_store();
                    let warning = "registered, but multipathd will not register paths that return";
                    self.warn_on_error(result, warning);
                }
                Err(_) => self.restore_key(before),
            }
        }
        result
    }

    /// Registers one path after another. After an error, the paths have the keys that they had
    /// before.
    fn register_paths(
        &mut self,
        guest: &GuestCommand<'_>,
        before: Option<PrKey>,
    ) -> ExecutionResult {
        let (old, new) = (guest.old_key(), guest.new);
        // A path can have a pending unit attention of a PREEMPT that this host sent while the path
        // was unreachable. Drop it, so that it is not taken for a preemption by another host now.
        // The unit attention of the first path is for the guest. A REGISTER AND IGNORE EXISTING KEY
        // that follows a preemption is executed.
        if old.is_some() {
            self.drain_unit_attentions(Some(0));
        }
        let (first_path, result, previous) = self.register_first_path(guest, before)?;
        let (first, _) = first_path;
        let mut registered = vec![first_path];
        for path in self.other_paths(first) {
            match self.register_usable_path(path, guest, before) {
                RegisterOutcome::Registered(old) => registered.push((path, old)),
                RegisterOutcome::Unreachable => self.warn_path(
                    path,
                    "unreachable and not registered: multipathd registers it when it returns",
                ),
                RegisterOutcome::Rejected(result) => {
                    self.roll_back(&registered, guest, before);
                    return Err(result);
                }
                RegisterOutcome::Fenced(result) => {
                    self.unregister_fenced(first, new);
                    self.send_register(first, new.key, new.unregister());
                    return Err(result);
                }
            }
        }
        let registered: Vec<_> = registered.into_iter().map(|(path, _)| path).collect();
        // An unreachable path may have been registered with the same key before.
        let others = match before.is_some_and(|before| before.key == new.key) {
            true => PathRegistration::Unknown,
            false => PathRegistration::NotRegistered,
        };
        self.set_registered(&registered, others);
        match previous {
            _ if self.is_fenced(first, new) => self.unregister_fenced(first, new),
            Some(old) if old != new.key => self.preempt_old_key(first, old, new.key),
            _ => {}
        }
        Ok(result)
    }

    /// Registers one path. Returns it, the result for the guest, and the previous key of this
    /// host's registrations, as far as it is known.
    fn register_first_path(
        &mut self,
        guest: &GuestCommand<'_>,
        before: Option<PrKey>,
    ) -> Result<(RegisteredPath, CommandResult, Option<ReservationKey>), CommandResult> {
        if let Some((key, path, result)) = self.replace_stored_key(guest, before)? {
            return Ok(((path, Some(key)), result, Some(key)));
        }
        let previous = match guest.new.all_tg_pt {
            true => self.previous_key(guest, before)?,
            false => guest.old_key(),
        };
        let (path, result) = self.register_first(guest).or_else(|result| {
            let path = self.find_path_with_new_key(guest, &result, before);
            let path = path.ok_or(result)?;
            Ok((path, CommandResult::from_status(Status::GOOD)))
        })?;
        Ok(((path, guest.old_key()), result, previous))
    }

    /// Executes REGISTER AND IGNORE EXISTING KEY as a REGISTER that replaces multipathd's key,
    /// which has the same effect. Returns that key, the path that had it, and the result; `None` if
    /// no path has it or the command cannot be executed like this.
    ///
    /// This proves that the key was this host's, so that it can be removed from unreachable paths.
    /// With `ALL_TG_PT`, such a REGISTER also depends on the keys of other paths.
    ///
    /// # Errors
    ///
    /// Returns a result that is for the guest, as [`PrOut::previous_key`] does.
    fn replace_stored_key(
        &mut self,
        guest: &GuestCommand<'_>,
        stored: Option<PrKey>,
    ) -> Result<Option<(ReservationKey, usize, CommandResult)>, CommandResult> {
        let key = unnamed_key(guest, stored).filter(|_| !guest.new.all_tg_pt);
        let Some(key) = key else {
            return Ok(None);
        };
        match self.first_success(&guest.command.as_register(key)) {
            Ok((path, result)) => Ok(Some((key, path, result))),
            Err(result) if is_refusal(&result) => Ok(None),
            Err(result) => Err(result),
        }
    }

    /// Returns the key that the guest's command replaces. REGISTER AND IGNORE EXISTING KEY does not
    /// name it: it is multipathd's key if a path is registered with that key.
    ///
    /// # Errors
    ///
    /// Returns the result of the first path that answers if it is for the guest: a unit attention,
    /// or a state in which the guest tries again.
    pub(super) fn previous_key(
        &mut self,
        guest: &GuestCommand<'_>,
        stored: Option<PrKey>,
    ) -> Result<Option<ReservationKey>, CommandResult> {
        match unnamed_key(guest, stored) {
            Some(key) if self.is_registered_with(key, guest)? => Ok(Some(key)),
            _ => Ok(guest.old_key()),
        }
    }

    /// Returns whether a path is registered with `key`. This registers the same key again, with the
    /// guest's APTPL bit. A path that rejects the command for another reason than its key gives no
    /// answer: LIO, for example, requires `ALL_TG_PT` after a registration with it.
    ///
    /// # Errors
    ///
    /// Returns a result that is for the guest, as [`PrOut::previous_key`] does.
    fn is_registered_with(
        &mut self,
        key: ReservationKey,
        guest: &GuestCommand<'_>,
    ) -> Result<bool, CommandResult> {
        let registration = RegisterParams {
            key,
            all_tg_pt: false,
            aptpl: guest.new.aptpl,
        };
        match self.first_success(&PrOutCommand::register(key, registration)) {
            Ok(_) => Ok(true),
            Err(result) if is_refusal(&result) => Ok(false),
            Err(result) => Err(result),
        }
    }

    /// Sends the guest's command to one path after another until one executes it.
    ///
    /// With `ALL_TG_PT`, a REGISTER fails if another nexus of the same initiator port has another
    /// key. That can be a failed path. If a path has the key that the guest names, it registers
    /// whatever keys these nexuses have.
    pub(super) fn register_first(
        &mut self,
        guest: &GuestCommand<'_>,
    ) -> Result<(usize, CommandResult), CommandResult> {
        let result = match self.first_success(guest.command) {
            Err(result) if result.status == Status::RESERVATION_CONFLICT => result,
            done => return done,
        };
        let key = guest
            .old_key()
            .filter(|_| guest.new.all_tg_pt)
            .ok_or(result)?;
        let registration = RegisterParams {
            key,
            all_tg_pt: false,
            aptpl: guest.new.aptpl,
        };
        let mut paths = 0..self.paths.len();
        let path = paths.find(|path| self.has_registration(*path, registration) == Some(true));
        let path = path.ok_or(result)?;
        let outcome = self.send_with_retry(path, &PrOutCommand::register_and_ignore(guest.new));
        match is_success(outcome) {
            true => Ok((path, outcome.into_result())),
            false => Err(outcome.into_result()),
        }
    }

    /// Returns a path that already has the new key, after all paths rejected the command.
    ///
    /// A path can reject the old key because it already has the new one, while the path with the
    /// old key is gone. If multipathd's key proves that the guest registered the old key, either
    /// multipathd has registered a returning path since then, or a reply to the guest was lost. And
    /// a path that did not reply to this command may have registered others (`ALL_TG_PT`). If any
    /// path is not registered, the result is `None`: that path may have lost the old key to another
    /// host, which has fenced the guest.
    fn find_path_with_new_key(
        &mut self,
        guest: &GuestCommand<'_>,
        result: &CommandResult,
        before: Option<PrKey>,
    ) -> Option<usize> {
        let (old, new) = (guest.old_key(), guest.new);
        let was_old = before.is_some_and(|before| Some(before.key) == old);
        let was_new = before.is_some_and(|before| before.key == new.key);
        let is_possible = !was_new && (was_old || self.has_lost_reply);
        if result.status != Status::RESERVATION_CONFLICT || !is_possible {
            return None;
        }
        let mut found = None;
        for path in 0..self.paths.len() {
            match self.has_registration(path, new) {
                Some(true) => found = found.or(Some(path)),
                Some(false) if self.is_unregistered(path) => return None,
                // The path does not answer, or has a key that was not registered through the map.
                _ => {}
            }
        }
        found
    }

    /// Registers a path after the first one, and once more if it has returned meanwhile.
    ///
    /// A path that answers remains in use. Without a registration, writes through it would fail, so
    /// the guest's command fails instead, as with `mpathpersist` since 0.13.
    fn register_usable_path(
        &mut self,
        path: usize,
        guest: &GuestCommand<'_>,
        before: Option<PrKey>,
    ) -> RegisterOutcome {
        let registration = self.register_path(path, guest, before);
        let is_unreachable = matches!(registration, RegisterOutcome::Unreachable);
        if !is_unreachable || !self.is_answering(path) {
            return registration;
        }
        match self.register_path(path, guest, before) {
            RegisterOutcome::Unreachable if self.is_answering(path) => {
                RegisterOutcome::Rejected(unreachable_unit())
            }
            registration => registration,
        }
    }

    /// Registers a path after the first one.
    ///
    /// A path can reject the old key because it already has the new one: from an attempt that was
    /// interrupted, or because the logical unit does not distinguish ports (`ALL_TG_PT`). Or the
    /// path has lost the old key: it was gone, and multipathd did not register it again. Or it has
    /// a key that was not registered through the map.
    fn register_path(
        &mut self,
        path: usize,
        guest: &GuestCommand<'_>,
        before: Option<PrKey>,
    ) -> RegisterOutcome {
        let (old, new) = (guest.old_key(), guest.new);
        let mut outcome = self.send_with_retry(path, guest.command);
        let was_preempted = self.was_preempted;
        // The first path has registered the named initiator ports, and this path leads to the same
        // target port. So register this path alone.
        if names_initiator_ports(guest.command)
            && completed(outcome).is_some_and(|result| is_invalid_parameter_list(&result))
        {
            outcome = self.send_register(path, old.unwrap_or_default(), new);
        }
        let mut known = old;
        // Try the keys that the path can have instead of `old`.
        let guesses = [new.key, ReservationKey::ZERO];
        for guess in guesses.into_iter().filter(|guess| Some(*guess) != old) {
            let Some(conflict) = conflict(outcome) else {
                break;
            };
            if old.is_some() && guess.is_zero() && was_preempted {
                return RegisterOutcome::Fenced(conflict);
            }
            known = Some(guess);
            outcome = self.send_register(path, guess, new);
        }
        // The path has a key that the guest does not know, or multipathd registered the path
        // between two commands.
        if conflict(outcome).is_some() && !self.has_stored_key(path, guest, before) {
            known = None;
            outcome = self.send_with_retry(path, &PrOutCommand::register_and_ignore(new));
        }
        match completed(outcome) {
            None => RegisterOutcome::Unreachable,
            Some(result) if result.status == Status::GOOD => RegisterOutcome::Registered(known),
            Some(result) => RegisterOutcome::Rejected(result),
        }
    }

    /// Returns whether a path has the key that multipathd stored, and the guest named another one.
    /// Such a guest must get the conflict that a single nexus with this key reports.
    fn has_stored_key(
        &mut self,
        path: usize,
        guest: &GuestCommand<'_>,
        before: Option<PrKey>,
    ) -> bool {
        let Some(PrKey { key, aptpl }) = before else {
            return false;
        };
        let registration = RegisterParams {
            key,
            all_tg_pt: false,
            aptpl,
        };
        guest.old_key().is_some_and(|old| old != key)
            && self.has_registration(path, registration) == Some(true)
    }

    /// Restores the previous keys of the paths, as far as they are known.
    fn roll_back(
        &mut self,
        registered: &[RegisteredPath],
        guest: &GuestCommand<'_>,
        before: Option<PrKey>,
    ) {
        let new = guest.new.key;
        let aptpl = before.map_or(guest.new.aptpl, |before| before.aptpl);
        for &(path, old) in registered {
            let is_restored = old.is_some_and(|key| {
                let restored = RegisterParams {
                    key,
                    aptpl,
                    ..guest.new
                };
                key == new || is_success(self.send_register(path, new, restored))
            });
            if !is_restored {
                let text = format!("is registered with key {new} although the command failed");
                self.warn_path(path, &text);
            }
        }
        if names_initiator_ports(guest.command) {
            self.warnings.push(format!(
                "initiator ports named by a failed command (SPEC_I_PT) may be registered with key \
                 {new}"
            ));
        }
    }

    fn restore_key(&mut self, before: Option<PrKey>) {
        let result = match before {
            Some(key) => self.set_and_enable(key),
            None => self.key_store.disable(),
        };
        self.warn_on_error(result, "multipathd may still store a rejected key");
    }

    /// Rejects a registration. Without multipathd, a path that returns would not be registered, and
    /// writes over it would fail.
    fn key_store_failed(&mut self, error: &PrKeyStoreError) -> CommandResult {
        self.warnings
            .push(format!("registration rejected: {error}"));
        unreachable_unit()
    }

    /// Registers all paths except `first`, some of which may be registered already.
    pub(super) fn register_others(&mut self, first: usize, registration: RegisterParams) {
        let key = registration.key;
        let mut registered = vec![first];
        for path in self.other_paths(first) {
            match self.register_again(path, registration) {
                // multipathd registers an unreachable path.
                None => {}
                Some(result) if result.status == Status::GOOD => registered.push(path),
                Some(CommandResult { status, .. }) => {
                    self.warn_path(path, &format!("not re-registered with key {key}: {status}"));
                }
            }
        }
        self.set_registered(&registered, PathRegistration::NotRegistered);
        if self.is_fenced(first, registration) {
            self.unregister_fenced(first, registration);
        }
    }

    /// Registers a path that has the key, no key, or the temporary key, because a worker was killed
    /// before it restored the key. Returns the last result; `None` if the path does not answer.
    fn register_again(
        &mut self,
        path: usize,
        registration: RegisterParams,
    ) -> Option<CommandResult> {
        let key = registration.key;
        let mut result = None;
        for old in [key, ReservationKey::ZERO, temporary_key(key)] {
            result = completed(self.send_register(path, old, registration));
            if result.is_none_or(|result| result.status == Status::GOOD) {
                break;
            }
        }
        result
    }

    /// Returns whether another initiator has removed the registration of the first path while the
    /// other paths were being registered.
    pub(super) fn is_fenced(&mut self, first: usize, registration: RegisterParams) -> bool {
        self.paths.len() > 1 && self.has_registration(first, registration) == Some(false)
    }

    /// Removes the new registrations of the other paths.
    ///
    /// A preemption of this host's key applies to all of its paths, and the other host has received
    /// GOOD. If paths were registered after that, this host could write although all other hosts
    /// consider it fenced.
    pub(super) fn unregister_fenced(&mut self, first: usize, registration: RegisterParams) {
        self.was_fenced = true;
        self.set_unregistered();
        self.disable_key_store();
        for path in self.other_paths(first) {
            self.send_register(path, registration.key, registration.unregister());
        }
    }

    /// Returns whether a path has a registration; `None` if it does not answer. This registers the
    /// same key again, which only succeeds if the path has it.
    pub(super) fn has_registration(
        &mut self,
        path: usize,
        registration: RegisterParams,
    ) -> Option<bool> {
        match completed(self.send_register(path, registration.key, registration))?.status {
            Status::GOOD => Some(true),
            Status::RESERVATION_CONFLICT => Some(false),
            _ => None,
        }
    }

    /// Returns whether a path answers and is not registered.
    pub(super) fn is_unregistered(&mut self, path: usize) -> bool {
        // REGISTER of the key zero by the key zero changes nothing.
        self.has_registration(path, RegisterParams::default()) == Some(true)
    }

    pub(super) fn warn_path(&mut self, path: usize, text: &str) {
        if let Some(path) = self.paths.get(path) {
            self.warnings.push(format!("path {path} {text}"));
        }
    }
}

/// Returns whether the parameter list is not longer than its fields, so that the logical unit does
/// not reject it because of its length or of TransportIDs.
pub(super) fn is_plain(command: &PrOutCommand) -> bool {
    command.parameter_list.len() == BASIC_LIST_LEN && !names_initiator_ports(command)
}

/// Returns multipathd's key if the guest's command replaces the existing key without naming it, and
/// that key may be another one.
fn unnamed_key(guest: &GuestCommand<'_>, stored: Option<PrKey>) -> Option<ReservationKey> {
    let key = stored?.key;
    let is_unnamed = guest.old_key().is_none() && key != guest.new.key && is_plain(guest.command);
    is_unnamed.then_some(key)
}

/// Returns whether a logical unit refused a REGISTER because of the key, or because of its
/// parameters: LIO, for example, requires `ALL_TG_PT` after a registration with it.
fn is_refusal(result: &CommandResult) -> bool {
    let is_illegal = |sense: Sense| sense.key == SenseKey::IllegalRequest;
    result.status == Status::RESERVATION_CONFLICT || result.decode_sense().is_some_and(is_illegal)
}

fn names_initiator_ports(command: &PrOutCommand) -> bool {
    let (byte, bit) = SPEC_I_PT;
    let flags = command.parameter_list.get(byte);
    flags.is_some_and(|flags| flags & bit != 0)
}

/// Returns whether the result is INVALID FIELD IN PARAMETER LIST, which a logical unit sends if a
/// named port is registered already.
fn is_invalid_parameter_list(result: &CommandResult) -> bool {
    result
        .decode_sense()
        .is_some_and(|sense| sense.code == AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST)
}
