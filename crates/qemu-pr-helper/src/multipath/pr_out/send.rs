// SPDX-License-Identifier: MIT OR Apache-2.0

//! Transmission of commands: to one path after another until one succeeds, or with retries to one
//! path; and the classification of results.

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::{CDB_SIZE, pad_cdb};
use scsi_pr::{
    AdditionalSense, InServiceAction, PersistentReserveIn, ReservationKey, SenseKey, Status,
};

use super::{PrKeyStore, PrOut, PrOutCommand, PrPath, RegisterParams, unreachable_unit};
use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

/// Maximum number of attempts at a path that reports a unit attention or is busy. A nexus has only
/// a handful of pending unit attentions.
const MAX_ATTEMPTS: usize = 8;

/// Maximum number of attempts at a path that cannot be reached. multipathd registers a path that
/// was gone, but does not notice a path that missed only one command.
const MAX_UNREACHABLE_ATTEMPTS: usize = 3;

/// Allocation length for READ RESERVATION in bytes, sufficient for every reply.
pub(super) const RESERVATION_LENGTH: u16 = 24;

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Sends a command to one path after another until one executes it, or rejects it for a reason
    /// that applies to all paths. Returns the path that executed the command, and the result.
    pub(super) fn first_success(
        &mut self,
        command: &PrOutCommand,
    ) -> Result<(usize, CommandResult), CommandResult> {
        let (mut rejected, mut not_delivered, mut unknown) = (None, None, None);
        for path in 0..self.paths.len() {
            // A unit attention is for the guest, unless the guest gets another path's result.
            let outcome = match rejected {
                None => self.send(path, command),
                Some(_) => self.send_with_retry(path, command),
            };
            match outcome {
                TransportOutcome::Completed(result) => match result.status {
                    Status::GOOD => return Ok((path, result)),
                    _ if is_not_registered(&result) => rejected = Some(result),
                    _ => return Err(result),
                },
                TransportOutcome::NotDelivered(result) => not_delivered = Some(result),
                TransportOutcome::Unknown(result) => {
                    self.has_lost_reply = true;
                    unknown = Some(result);
                }
            }
        }
        let result = match command.is_idempotent() {
            true => rejected.or(unknown),
            // A conflict can be the consequence of executing the command twice.
            false => unknown.or(rejected),
        };
        Err(result.or(not_delivered).unwrap_or_else(unreachable_unit))
    }

    /// Sends a command to a path.
    pub(super) fn send(&mut self, path: usize, command: &PrOutCommand) -> TransportOutcome {
        let data = Data::ToDevice(&command.parameter_list);
        self.send_data(path, &command.cdb, data)
    }

    fn send_data(&mut self, path: usize, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let path_state = self.paths.get_mut(path).zip(self.unreachable.get_mut(path));
        let Some((path, is_unreachable)) = path_state else {
            return TransportOutcome::NotDelivered(unreachable_unit());
        };
        let outcome = path.send(cdb, data);
        *is_unreachable = completed(outcome).is_none();
        outcome
    }

    /// Sends a command to a path that must follow another one. Retries after unit attentions and
    /// temporary failures, so that the path does not fall behind.
    pub(super) fn send_with_retry(
        &mut self,
        path: usize,
        command: &PrOutCommand,
    ) -> TransportOutcome {
        self.was_preempted = false;
        let mut outcome = self.send(path, command);
        for attempt in 1..MAX_ATTEMPTS {
            match outcome {
                TransportOutcome::Completed(result) if is_unit_attention(&result) => {
                    self.was_preempted |= is_preemption(&result);
                }
                TransportOutcome::Completed(result) if is_busy(&result) => {
                    self.wait_before_retry(path);
                }
                // The driver of a path does not retry by itself.
                TransportOutcome::NotDelivered(_) | TransportOutcome::Unknown(_)
                    if attempt < MAX_UNREACHABLE_ATTEMPTS =>
                {
                    self.wait_before_retry(path);
                }
                _ => break,
            }
            outcome = match (outcome, self.send(path, command)) {
                // The path may have executed the first one.
                (TransportOutcome::Unknown(result), TransportOutcome::NotDelivered(_)) => {
                    TransportOutcome::Unknown(result)
                }
                (_, outcome) => outcome,
            };
        }
        outcome
    }

    /// Sends a REGISTER with retries, as [`PrOutCommand::register`] creates it.
    pub(super) fn send_register(
        &mut self,
        path: usize,
        old: ReservationKey,
        new: RegisterParams,
    ) -> TransportOutcome {
        self.send_with_retry(path, &PrOutCommand::register(old, new))
    }

    fn wait_before_retry(&self, path: usize) {
        if let Some(path) = self.paths.get(path) {
            path.wait_before_retry();
        }
    }

    /// Returns the indices of all paths except `path`.
    pub(super) fn other_paths(&self, path: usize) -> impl Iterator<Item = usize> + use<P, S> {
        (0..self.paths.len()).filter(move |other| *other != path)
    }

    /// Reads and drops the pending unit attentions of all paths except `except`.
    pub(super) fn drain_unit_attentions(&mut self, except: Option<usize>) {
        for path in 0..self.paths.len() {
            if Some(path) != except {
                self.read_from(path, InServiceAction::ReadReservation, RESERVATION_LENGTH);
            }
        }
    }

    /// Returns whether a path completes a command.
    pub(super) fn is_answering(&mut self, path: usize) -> bool {
        let action = InServiceAction::ReadReservation;
        self.read_from(path, action, RESERVATION_LENGTH).is_some()
    }

    /// Returns the reply to PERSISTENT RESERVE IN from the first path that sends one.
    pub(super) fn read(&mut self, action: InServiceAction, length: u16) -> Option<Vec<u8>> {
        (0..self.paths.len()).find_map(|path| self.read_from(path, action, length))
    }

    /// Returns the reply to PERSISTENT RESERVE IN from the first path that completes it, before the
    /// guest's command was sent.
    ///
    /// # Errors
    ///
    /// Returns a pending unit attention, which is for the guest.
    pub(super) fn read_for_guest(
        &mut self,
        action: InServiceAction,
        length: u16,
    ) -> Result<Option<Vec<u8>>, CommandResult> {
        let mut replies = (0..self.paths.len()).map(|path| self.read_once(path, action, length));
        let completed = replies.find_map(|(outcome, data)| Some((completed(outcome)?, data)));
        match completed {
            Some((result, _)) if is_unit_attention(&result) => Err(result),
            Some((result, data)) if result.status == Status::GOOD => Ok(Some(data)),
            _ => Ok(None),
        }
    }

    fn read_from(&mut self, path: usize, action: InServiceAction, length: u16) -> Option<Vec<u8>> {
        for _ in 0..MAX_ATTEMPTS {
            let (outcome, data) = self.read_once(path, action, length);
            match completed(outcome) {
                Some(result) if is_unit_attention(&result) => {}
                Some(result) if result.status == Status::GOOD => return Some(data),
                _ => break,
            }
        }
        None
    }

    fn read_once(
        &mut self,
        path: usize,
        action: InServiceAction,
        length: u16,
    ) -> (TransportOutcome, Vec<u8>) {
        let command = PersistentReserveIn {
            service_action: action,
            allocation_length: length,
            control: 0,
        };
        let cdb = pad_cdb(&command.encode());
        let mut data = vec![0; length.into()];
        let outcome = self.send_data(path, &cdb, Data::FromDevice(&mut data));
        if let Some(result) = completed(outcome) {
            data.truncate(result.data_len);
        }
        (outcome, data)
    }
}

/// Returns the result if the logical unit, or the kernel in its place, sent one.
pub(super) const fn completed(outcome: TransportOutcome) -> Option<CommandResult> {
    match outcome {
        TransportOutcome::Completed(result) => Some(result),
        TransportOutcome::NotDelivered(_) | TransportOutcome::Unknown(_) => None,
    }
}

/// Returns the result if it is RESERVATION CONFLICT.
pub(super) fn conflict(outcome: TransportOutcome) -> Option<CommandResult> {
    completed(outcome).filter(|result| result.status == Status::RESERVATION_CONFLICT)
}

fn is_unit_attention(result: &CommandResult) -> bool {
    result
        .decode_sense()
        .is_some_and(|sense| sense.key == SenseKey::UnitAttention)
}

/// Returns whether the nexus is not registered, or not with the key of the command. Another nexus
/// may be. To RESERVE and RELEASE from a nexus that is not registered, LIO replies with NOT READY,
/// LOGICAL UNIT COMMUNICATION FAILURE.
pub(super) fn is_not_registered(result: &CommandResult) -> bool {
    result.status == Status::RESERVATION_CONFLICT
        || result.decode_sense().is_some_and(|sense| {
            sense.key == SenseKey::NotReady
                && sense.code == AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE
        })
}

/// Returns whether another nexus has removed this nexus's registration, or all registrations
/// (SPC-4, 5.12.11).
fn is_preemption(result: &CommandResult) -> bool {
    result.decode_sense().is_some_and(|sense| {
        matches!(
            sense.code,
            AdditionalSense::RESERVATIONS_PREEMPTED | AdditionalSense::REGISTRATIONS_PREEMPTED
        )
    })
}

pub(super) fn is_success(outcome: TransportOutcome) -> bool {
    completed(outcome).is_some_and(|result| result.status == Status::GOOD)
}

fn is_busy(result: &CommandResult) -> bool {
    matches!(result.status, Status::BUSY | Status::TASK_SET_FULL)
}
