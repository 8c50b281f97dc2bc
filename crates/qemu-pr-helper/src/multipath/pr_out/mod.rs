// SPDX-License-Identifier: MIT OR Apache-2.0

//! Execution of a PERSISTENT RESERVE OUT command over all paths to a logical unit, with the effect
//! and the result that it has on a single path.
//!
//! A reservation belongs to an `I_T` nexus, and each path is a nexus of its own. A guest sees one
//! disk and assumes one nexus. Therefore:
//!
//! * The command is sent unchanged to one path after another until one completes it. The result of
//!   that path is the result for the guest. RESERVATION CONFLICT from one path is not final,
//!   because another path may be the one that is registered, or that holds the reservation.
//! * Effects that the command has only on its own nexus are then repeated on the other paths: a
//!   registration (`register.rs`), a release (`release.rs`), and the effects of PREEMPT and CLEAR
//!   on the registrations of these paths.
//! * No path is unregistered while a reservation remains that a single nexus could write under:
//!   the reservation is released first (`unregister.rs`), and a preemption of the own key removes
//!   no registration of a reachable path (`own_key.rs`).
//! * All this establishes unit attentions on the other paths, which are meant for other initiators.
//!   They are read and dropped here.
//! * multipathd receives the key, so that it registers a path that returns.
//!
//! A path that cannot be reached is skipped, and the state that it leaves on the logical unit is
//! cleaned up (`unreachable.rs`). This module does not depend on sockets, processes or devices: its
//! tests use logical units in software.

mod check;
mod cleanup;
mod forget;
mod own_key;
mod register;
mod release;
mod send;
mod unreachable;
mod unregister;

use std::fmt::Display;

use helper_state::PathRegistration;
use linux_util::sg_io::Data;
use pr_helper_protocol::wire::{CDB_SIZE, pad_cdb};

use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, OutServiceAction, PersistentReserveOut,
    ReservationKey, ScopeType, SenseKey, Status,
};
use thiserror::Error;

use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;
use own_key::temporary_key;

/// Index of the byte with the flags in the parameter list of REGISTER AND MOVE (SPC-4, 6.16.4).
const MOVE_FLAGS: usize = 17;

/// The bits UNREG and APTPL in [`MOVE_FLAGS`].
const MOVE_UNREG: u8 = 0x02;
const MOVE_APTPL: u8 = 0x01;

/// The field SERVICE ACTION in the second byte of a CDB (SPC-4, 6.16.1).
const SERVICE_ACTION: u8 = 0x1f;

/// Warning about a command that no path completed.
pub(super) const NO_PATH: &str =
    "no path of the map can be reached, or each has hung; see 'multipathd show paths'";

/// Path to the logical unit. `Display` is its name.
pub trait PrPath: Display {
    /// Sends a command and waits a limited time for its completion.
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome;

    /// Waits a moment before a command is sent to this path again.
    fn wait_before_retry(&self);

    /// Returns the device number, such as `8:16`.
    fn number(&self) -> String;
}

/// Key that a map is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrKey {
    /// The key.
    pub key: ReservationKey,
    /// True if the registration persists through power loss (APTPL).
    pub aptpl: bool,
}

/// Store of the key of a map, which registers paths that return: multipathd.
///
/// # Errors
///
/// All methods return an error if the store cannot be reached or rejects the request.
#[expect(clippy::missing_errors_doc, reason = "the trait documents them")]
pub trait PrKeyStore {
    /// Returns the key that the store registers returning paths with; `None` if it registers none.
    fn key(&mut self) -> Result<Option<PrKey>, PrKeyStoreError>;

    /// Stores a key.
    fn set_key(&mut self, key: PrKey) -> Result<(), PrKeyStoreError>;

    /// Starts to register returning paths with the stored key. `registered` contains the numbers of
    /// the paths that are registered already.
    fn enable(&mut self, registered: &[String]) -> Result<(), PrKeyStoreError>;

    /// Stops registering paths, and removes the key.
    fn disable(&mut self) -> Result<(), PrKeyStoreError>;

    /// Returns whether the map holds the reservation; `None` if the store does not know it.
    fn is_holding(&mut self) -> Option<bool>;

    /// Records whether the map holds the reservation, if the store supports that.
    fn set_holding(&mut self, is_holder: bool);
}

/// Failure of a [`PrKeyStore`], with a remedy for the operator, in one sentence.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct PrKeyStoreError(pub String);

/// Result of a command, and warnings for the operator.
#[derive(Debug)]
pub struct PrOutResult {
    /// Result for the guest.
    pub result: CommandResult,
    /// Sentences for the log.
    pub warnings: Vec<String>,
    /// For each path, whether it is registered now; empty if the command does not show it.
    pub registrations: Vec<PathRegistration>,
}

/// Parameters of a REGISTER: the new key, and the flags. The key zero unregisters.
#[derive(Clone, Copy, Default)]
struct RegisterParams {
    key: ReservationKey,
    all_tg_pt: bool,
    aptpl: bool,
}

impl RegisterParams {
    /// Returns the parameters that unregister, with the same flags.
    fn unregister(self) -> Self {
        Self {
            key: ReservationKey::ZERO,
            ..self
        }
    }
}

/// PERSISTENT RESERVE OUT command.
struct PrOutCommand {
    cdb: [u8; CDB_SIZE],
    parameter_list: Vec<u8>,
}

impl PrOutCommand {
    /// Creates a command of a nexus that is registered with `key`. `new` supplies the service
    /// action reservation key and the flags.
    fn new(
        service_action: OutServiceAction,
        scope_type: ScopeType,
        key: ReservationKey,
        new: RegisterParams,
    ) -> Self {
        let list = BasicParameterList {
            reservation_key: key,
            service_action_reservation_key: new.key,
            spec_i_pt: None,
            all_tg_pt: new.all_tg_pt,
            aptpl: new.aptpl,
        };
        let parameter_list = list.encode();
        let cdb = PersistentReserveOut {
            service_action,
            scope_type,
            // The length is 24, because the list contains no TransportIDs.
            parameter_list_length: u32::try_from(parameter_list.len()).unwrap_or(u32::MAX),
            control: 0,
        };
        Self {
            cdb: pad_cdb(&cdb.encode()),
            parameter_list,
        }
    }

    /// Creates a PREEMPT of all registrations with the key `victim`, sent by a nexus that is
    /// registered with `own`.
    fn preempt(own: ReservationKey, victim: ReservationKey, scope_type: ScopeType) -> Self {
        let victim = RegisterParams {
            key: victim,
            ..RegisterParams::default()
        };
        Self::new(OutServiceAction::Preempt, scope_type, own, victim)
    }

    /// Creates a REGISTER AND IGNORE EXISTING KEY of `new`.
    fn register_and_ignore(new: RegisterParams) -> Self {
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        Self::new(action, ScopeType(0), ReservationKey::ZERO, new)
    }

    /// Creates a REGISTER of `new` on a nexus that is registered with `old`; zero stands for a
    /// nexus that is not registered.
    fn register(old: ReservationKey, new: RegisterParams) -> Self {
        Self::new(OutServiceAction::Register, ScopeType(0), old, new)
    }

    /// Returns this REGISTER AND IGNORE EXISTING KEY as a REGISTER on a nexus that is registered
    /// with `old`, with the same flags and the same control byte.
    fn as_register(&self, old: ReservationKey) -> Self {
        let mut cdb = self.cdb;
        let [_, action, ..] = &mut cdb;
        *action = *action & !SERVICE_ACTION | OutServiceAction::Register.code();
        let mut parameter_list = self.parameter_list.clone();
        if let Some(key) = parameter_list.first_chunk_mut() {
            *key = old.get().to_be_bytes();
        }
        Self {
            cdb,
            parameter_list,
        }
    }

    /// Returns whether the command can be sent twice: the logical unit responds to the repetition
    /// as if the first one had not been executed.
    fn is_idempotent(&self) -> bool {
        use OutServiceAction as Action;
        !matches!(
            Cdb::decode(&self.cdb),
            Ok(Cdb::Out(PersistentReserveOut {
                service_action: Action::Clear
                    | Action::Preempt
                    | Action::PreemptAndAbort
                    | Action::RegisterAndMove
                    | Action::ReplaceLostReservation,
                ..
            }))
        )
    }
}

/// Command of the guest, with its decoded fields.
struct GuestCommand<'a> {
    command: &'a PrOutCommand,
    action: OutServiceAction,
    scope_type: ScopeType,
    /// Reservation key: the key that the guest is registered with.
    key: ReservationKey,
    /// Service action reservation key, and flags.
    new: RegisterParams,
}

impl<'a> GuestCommand<'a> {
    /// Decodes a command; `None` if it is malformed.
    fn decode(command: &'a PrOutCommand) -> Option<Self> {
        let Ok(Cdb::Out(cdb)) = Cdb::decode(&command.cdb) else {
            return None;
        };
        let list = BasicParameterList::without_ids(&command.parameter_list)?;
        Some(Self {
            command,
            action: cdb.service_action,
            scope_type: cdb.scope_type,
            key: list.reservation_key,
            new: RegisterParams {
                key: list.service_action_reservation_key,
                all_tg_pt: list.all_tg_pt,
                aptpl: list.aptpl,
            },
        })
    }

    /// Returns the key before a registration; `None` for REGISTER AND IGNORE EXISTING KEY, which
    /// does not name it.
    fn old_key(&self) -> Option<ReservationKey> {
        (self.action == OutServiceAction::Register).then_some(self.key)
    }

    /// Returns the key for the key store.
    const fn pr_key(&self) -> PrKey {
        PrKey {
            key: self.new.key,
            aptpl: self.new.aptpl,
        }
    }
}

/// Result for the guest: `Ok` if the command was executed, possibly not on all paths, and `Err` if
/// it was not.
type ExecutionResult = Result<CommandResult, CommandResult>;

/// Execution of one command over all paths.
struct PrOut<'a, P, S> {
    paths: &'a mut [P],
    /// For each path, whether the last command could not be delivered or got no reply.
    unreachable: Vec<bool>,
    /// True if a path may have executed the guest's command although its reply was lost.
    has_lost_reply: bool,
    /// True if the last [`PrOut::send_with_retry`] found a unit attention that the registration of
    /// the path was preempted.
    was_preempted: bool,
    /// True if another host has removed the registrations of these paths during this command.
    was_fenced: bool,
    key_store: &'a mut S,
    warnings: Vec<String>,
    /// For each path, whether it is registered after this command; empty if that is not known.
    registrations: Vec<PathRegistration>,
}

/// Executes a PERSISTENT RESERVE OUT command on the logical unit behind `paths`, which are all
/// paths of the map, including those that cannot be reached.
pub fn execute<P: PrPath, S: PrKeyStore>(
    paths: &mut [P],
    key_store: &mut S,
    cdb: &[u8; CDB_SIZE],
    parameter_list: &[u8],
) -> PrOutResult {
    let command = PrOutCommand {
        cdb: *cdb,
        parameter_list: parameter_list.to_owned(),
    };
    let mut pr_out = PrOut::new(paths, key_store);
    let result = pr_out.execute(&command);
    pr_out.finish(result)
}

/// Executes CLEANUP on the logical unit behind `paths`, which are all paths of the map: removes the
/// key from the key store, and the registrations of the paths that can be reached.
pub fn cleanup<P: PrPath, S: PrKeyStore>(paths: &mut [P], key_store: &mut S) -> PrOutResult {
    let mut pr_out = PrOut::new(paths, key_store);
    let result = pr_out.cleanup();
    pr_out.finish(result)
}

/// Removes the key from the key store if none of `paths`, which are all paths of the map, is
/// registered with it. Returns the key if it was removed.
///
/// # Errors
///
/// Returns the error of the key store.
pub fn forget<P: PrPath, S: PrKeyStore>(
    paths: &mut [P],
    key_store: &mut S,
) -> Result<Option<ReservationKey>, PrKeyStoreError> {
    PrOut::new(paths, key_store).forget()
}

/// Returns for each of `paths`, some of the paths of the map, whether it is registered with the key
/// in the key store; `None` if no path of the map is.
///
/// # Errors
///
/// Returns the error of the key store.
pub fn check<P: PrPath, S: PrKeyStore>(
    paths: &mut [P],
    key_store: &mut S,
) -> Result<Option<Vec<PathRegistration>>, PrKeyStoreError> {
    PrOut::new(paths, key_store).check()
}

impl<'a, P: PrPath, S: PrKeyStore> PrOut<'a, P, S> {
    fn new(paths: &'a mut [P], key_store: &'a mut S) -> Self {
        Self {
            unreachable: vec![false; paths.len()],
            has_lost_reply: false,
            was_preempted: false,
            was_fenced: false,
            paths,
            key_store,
            warnings: Vec::new(),
            registrations: Vec::new(),
        }
    }

    fn finish(mut self, result: ExecutionResult) -> PrOutResult {
        if result.is_err() && self.unreachable.iter().all(|lost| *lost) {
            self.warnings.push(NO_PATH.to_owned());
        }
        let (Ok(result) | Err(result)) = result;
        PrOutResult {
            result,
            warnings: self.warnings,
            registrations: self.registrations,
        }
    }

    /// Records that these paths are registered. The others have the registration `others`.
    fn set_registered(&mut self, registered: &[usize], others: PathRegistration) {
        let state = |path| match registered.contains(&path) {
            true => PathRegistration::Registered,
            false => others,
        };
        self.registrations = (0..self.paths.len()).map(state).collect();
    }

    /// Records that no path is registered.
    fn set_unregistered(&mut self) {
        self.set_registered(&[], PathRegistration::NotRegistered);
    }

    fn execute(&mut self, command: &PrOutCommand) -> ExecutionResult {
        use OutServiceAction as Action;
        let Some(guest) = GuestCommand::decode(command) else {
            // The logical unit rejects a malformed command.
            return self.first_success(command).map(|(_, result)| result);
        };
        match guest.action {
            Action::Register | Action::RegisterAndIgnoreExistingKey => self.register(&guest),
            Action::Release => self.release(&guest),
            Action::Reserve => self.reserve(&guest),
            Action::Clear => self.clear(&guest),
            Action::Preempt | Action::PreemptAndAbort => self.preempt(&guest),
            Action::RegisterAndMove => self.register_and_move(&guest),
            Action::ReplaceLostReservation => self.replace_lost_reservation(&guest),
        }
    }

    /// Executes RESERVE. The holder may reserve again with the same scope and type. If an
    /// unreachable path is the holder, the other paths get RESERVATION CONFLICT, and this returns
    /// GOOD in its place, unless the holder would reject the parameter list.
    fn reserve(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        match self.first_success(guest.command) {
            Ok((_, result)) => {
                self.key_store.set_holding(true);
                self.warn_about_type(guest.scope_type);
                Ok(result)
            }
            Err(result) => {
                let is_conflict = result.status == Status::RESERVATION_CONFLICT;
                let is_held = is_conflict
                    && register::is_plain(guest.command)
                    && self.held_by_unreachable(guest.key) == Some(guest.scope_type);
                // A path that sent no reply may hold the reservation.
                if is_held || !is_conflict && self.has_lost_reply {
                    self.key_store.set_holding(true);
                }
                match is_held {
                    true => Ok(CommandResult::from_status(Status::GOOD)),
                    false => Err(result),
                }
            }
        }
    }

    fn clear(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        let (path, result) = self.first_success(guest.command)?;
        self.set_unregistered();
        self.disable_key_store();
        self.drain_unit_attentions(Some(path));
        Ok(result)
    }

    /// Executes PREEMPT and PREEMPT AND ABORT. All registrations with the victim's key are removed,
    /// including those of the other paths if it is the guest's own key. If the sending path keeps
    /// its registration, the other paths must keep theirs.
    fn preempt(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        let (key, victim) = (guest.key, guest.new.key);
        let is_own_reservation = victim == key
            && self.paths.len() > 1
            && self
                .reservation_for_guest()?
                .is_some_and(|held| [key, temporary_key(key)].contains(&held.key));
        let (path, result) = match is_own_reservation {
            true => self.preempt_own_key(guest.command, key)?,
            false => self.first_success(guest.command)?,
        };
        if victim == key || victim.is_zero() {
            let registration = self.current_registration(key);
            match self.has_registration(path, registration) {
                Some(false) => {
                    self.disable_key_store();
                    let unregister = PrOutCommand::register(key, registration.unregister());
                    self.unregister_others(path, &unregister, registration.aptpl)?;
                    self.set_unregistered();
                }
                _ => self.register_others(path, registration),
            }
        }
        self.drain_unit_attentions(Some(path));
        if let Some(held) = self.reservation().filter(|held| held.key == key) {
            self.key_store.set_holding(true);
            self.warn_about_type(held.scope_type);
        }
        Ok(result)
    }

    fn register_and_move(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        let (path, result) = match self.first_success(guest.command) {
            Err(result) if result.status == Status::RESERVATION_CONFLICT => {
                let scope_type = self.held_by_unreachable(guest.key).ok_or(result)?;
                self.take_over(guest.key, scope_type)?;
                self.first_success(guest.command)?
            }
            done => done?,
        };
        let flags = guest.command.parameter_list.get(MOVE_FLAGS);
        let flags = flags.copied().unwrap_or_default();
        if flags & MOVE_UNREG != 0 {
            self.disable_key_store();
            let removed = RegisterParams {
                aptpl: flags & MOVE_APTPL != 0,
                ..RegisterParams::default()
            };
            let unregister = PrOutCommand::register(guest.key, removed);
            self.unregister_others(path, &unregister, removed.aptpl)?;
            self.unregister_unreachable(path, Some(guest.key), removed);
            self.set_unregistered();
        }
        self.key_store.set_holding(false);
        self.drain_unit_attentions(Some(path));
        Ok(result)
    }

    fn replace_lost_reservation(&mut self, guest: &GuestCommand<'_>) -> ExecutionResult {
        let (path, result) = self.first_success(guest.command)?;
        self.register_others(path, guest.new);
        if let Err(error) = self.set_and_enable(guest.pr_key()) {
            self.warnings.push(error.to_string());
        }
        self.drain_unit_attentions(Some(path));
        Ok(result)
    }

    /// Warns if only one path, the holder, has access under a reservation of the guest.
    fn warn_about_type(&mut self, scope_type: ScopeType) {
        let reservation_type = scope_type.reservation_type();
        let exclusive = reservation_type.filter(|kind| !kind.allows_registrants());
        if let Some(exclusive) = exclusive
            && self.paths.len() > 1
        {
            self.warnings.push(format!(
                "reservation of type {exclusive}: only the path that holds it has access, and \
                 writes through the other paths fail; use a type for registrants (5 to 8)"
            ));
        }
    }

    fn set_and_enable(&mut self, key: PrKey) -> Result<(), PrKeyStoreError> {
        self.key_store.set_key(key)?;
        self.enable_key_store()
    }

    fn enable_key_store(&mut self) -> Result<(), PrKeyStoreError> {
        let paths = self.paths.iter().zip(&self.unreachable);
        let reachable = paths.filter(|(_, is_unreachable)| !**is_unreachable);
        let numbers: Vec<_> = reachable.map(|(path, _)| path.number()).collect();
        self.key_store.enable(&numbers)
    }

    fn disable_key_store(&mut self) {
        let result = self.key_store.disable();
        let warning = "unregistered, but multipathd may register paths that return";
        self.warn_on_error(result, warning);
    }

    fn warn_on_error(&mut self, result: Result<(), PrKeyStoreError>, warning: &str) {
        if let Err(error) = result {
            self.warnings.push(format!("{warning}: {error}"));
        }
    }
}

/// Returns the result of a command that no path accepted.
fn unreachable_unit() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
    )
}
