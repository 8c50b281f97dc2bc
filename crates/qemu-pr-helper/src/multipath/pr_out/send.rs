//! How paths are asked: in turn until one does it, with insistence where one has to follow, and what they say
//! of the logical unit.

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::{CDB_SIZE, pad_cdb};
use scsi_pr::{AdditionalSense, InServiceAction, PersistentReserveIn, Sense, SenseKey, Status};

use super::{Keeper, Order, Path, Spread, unreachable_unit};
use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

/// How often a path is asked again that has a unit attention to tell, or is busy. A nexus has a handful of
/// unit attentions at most.
const ATTEMPTS: usize = 8;

/// How often one is asked again that cannot be reached. multipathd registers a path that was away, but one
/// that only missed a command it does not miss.
const LOST_ATTEMPTS: usize = 3;

/// Room for any answer to READ RESERVATION.
const RESERVATION_LENGTH: u16 = 24;

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// Asks one path after another until one does it, or refuses it for a reason that all would have. Gives
    /// the path that has done it, and the answer.
    pub(super) fn by_one(&mut self, order: &Order) -> (Option<usize>, CommandResult) {
        let (mut refused, mut unsent, mut lost) = (None, None, None);
        for path in 0..self.paths.len() {
            // A unit attention is for the guest, unless it gets another path's answer.
            let delivery = match refused {
                None => self.send(path, order),
                Some(_) => self.insist(path, order),
            };
            match delivery {
                TransportOutcome::Completed(outcome) => match outcome.status {
                    Status::GOOD => return (Some(path), outcome),
                    _ if is_refusal(&outcome) => refused = Some(outcome),
                    _ => return (None, outcome),
                },
                TransportOutcome::NotDelivered(outcome) => unsent = Some(outcome),
                TransportOutcome::Unknown(outcome) => lost = Some(outcome),
            }
        }
        let answer = match order.can_be_repeated() {
            true => refused.or(lost),
            // A conflict may be what comes of doing it twice.
            false => lost.or(refused),
        };
        (None, answer.or(unsent).unwrap_or_else(unreachable_unit))
    }

    /// Sends a command to a path.
    pub(super) fn send(&mut self, path: usize, order: &Order) -> TransportOutcome {
        self.send_with(path, &order.cdb, Data::ToDevice(&order.list))
    }

    fn send_with(&mut self, path: usize, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let (Some(route), Some(lost)) = (self.paths.get_mut(path), self.lost.get_mut(path)) else {
            return TransportOutcome::NotDelivered(unreachable_unit());
        };
        let delivery = route.send(cdb, data);
        *lost = !matches!(delivery, TransportOutcome::Completed(_));
        delivery
    }

    /// Sends a command to a path that is to follow another one: neither a unit attention nor a bad moment
    /// must make it stay behind.
    pub(super) fn insist(&mut self, path: usize, order: &Order) -> TransportOutcome {
        self.was_preempted = false;
        let mut delivery = self.send(path, order);
        for attempt in 1..ATTEMPTS {
            match delivery {
                TransportOutcome::Completed(outcome) if is_unit_attention(&outcome) => {
                    self.was_preempted |= is_preemption(&outcome);
                }
                TransportOutcome::Completed(outcome) if is_busy(&outcome) => self.pause(path),
                // The driver of a path tries nothing again by itself.
                TransportOutcome::NotDelivered(_) | TransportOutcome::Unknown(_)
                    if attempt < LOST_ATTEMPTS =>
                {
                    self.pause(path);
                }
                _ => break,
            }
            delivery = self.send(path, order);
        }
        delivery
    }

    fn pause(&self, path: usize) {
        if let Some(path) = self.paths.get(path) {
            path.pause();
        }
    }

    /// The numbers of the paths but one.
    pub(super) fn others(&self, path: usize) -> impl Iterator<Item = usize> + use<P, K> {
        (0..self.paths.len()).filter(move |other| *other != path)
    }

    /// Reads the unit attentions of all paths but one.
    pub(super) fn read_attentions(&mut self, except: Option<usize>) {
        for path in 0..self.paths.len() {
            if Some(path) != except {
                self.read_from(path, InServiceAction::ReadReservation, RESERVATION_LENGTH);
            }
        }
    }

    /// What the logical unit says to PERSISTENT RESERVE IN by the first path that gives an answer.
    pub(super) fn read(&mut self, action: InServiceAction, length: u16) -> Option<Vec<u8>> {
        (0..self.paths.len()).find_map(|path| self.read_from(path, action, length))
    }

    pub(super) fn read_from(
        &mut self,
        path: usize,
        action: InServiceAction,
        length: u16,
    ) -> Option<Vec<u8>> {
        let command = PersistentReserveIn {
            service_action: action,
            allocation_length: length,
            control: 0,
        };
        let cdb = pad_cdb(&command.encode());
        let mut data = vec![0; length.into()];
        for _ in 0..ATTEMPTS {
            match self.send_with(path, &cdb, Data::FromDevice(&mut data)) {
                TransportOutcome::Completed(outcome) if is_unit_attention(&outcome) => {}
                TransportOutcome::Completed(outcome) if outcome.status == Status::GOOD => {
                    data.truncate(outcome.data_len);
                    return Some(data);
                }
                _ => break,
            }
        }
        None
    }
}

pub(super) fn is_unit_attention(outcome: &CommandResult) -> bool {
    sense(outcome).is_some_and(|sense| sense.key == SenseKey::UnitAttention)
}

/// What a nexus hears that is not registered, or not with that key; another one may be. LIO has words of its
/// own for RESERVE and RELEASE by one that is not: NOT READY, LOGICAL UNIT COMMUNICATION FAILURE.
pub(super) fn is_refusal(outcome: &CommandResult) -> bool {
    outcome.status == Status::RESERVATION_CONFLICT
        || sense(outcome).is_some_and(|sense| {
            sense.key == SenseKey::NotReady
                && sense.code == AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE
        })
}

/// Somebody has taken this nexus's registration, or all of them (SPC-4, 5.12.11).
fn is_preemption(outcome: &CommandResult) -> bool {
    sense(outcome).is_some_and(|sense| {
        matches!(
            sense.code,
            AdditionalSense::RESERVATIONS_PREEMPTED | AdditionalSense::REGISTRATIONS_PREEMPTED
        )
    })
}

pub(super) fn is_good(delivery: &TransportOutcome) -> bool {
    matches!(delivery, TransportOutcome::Completed(outcome) if outcome.status == Status::GOOD)
}

pub(super) fn is_busy(outcome: &CommandResult) -> bool {
    matches!(outcome.status, Status::BUSY | Status::TASK_SET_FULL)
}

pub(super) fn sense(outcome: &CommandResult) -> Option<Sense> {
    match outcome.status {
        Status::CHECK_CONDITION => Sense::decode(&outcome.sense).ok(),
        _ => None,
    }
}
