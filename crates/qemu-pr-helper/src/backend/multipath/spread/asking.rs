//! How paths are asked: in turn until one does it, with insistence where one has to follow, and what they say
//! of the logical unit.

use std::thread::sleep;
use std::time::Duration;

use linux_sys::sg::Data;
use pr_socket::wire::{CDB_SIZE, padded};
use scsi_pr::{
    InServiceAction, Keys, PersistentReserveIn, Reservation, ReservationData, ReservationKey,
    ScopeType, Sense, SenseKey, Status,
};

use super::{Keeper, Order, Path, Spread, unreachable_unit};
use crate::backend::sg::Delivery;
use crate::outcome::Outcome;

/// How often a path is asked again that has a unit attention to tell, or is busy. A nexus has a handful of
/// unit attentions at most.
const ATTEMPTS: usize = 8;

/// Between two attempts at a path that is busy.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that READ RESERVATION gives.
const RESERVATION_LENGTH: u16 = 24;

/// Bytes for READ KEYS: as many keys as the protocol with QEMU has room for.
const KEYS_LENGTH: u16 = 8192;

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// Asks one path after another until one does it, or refuses it for a reason that all would have. Gives
    /// the path that has done it, and the answer.
    pub(super) fn by_one(&mut self, order: &Order) -> (Option<usize>, Outcome) {
        let mut refused = None;
        let mut lost = None;
        for path in 0..self.paths.len() {
            // A unit attention is for the guest, unless it gets another path's answer.
            let delivery = match refused {
                None => self.send(path, order),
                Some(_) => self.insist(path, order),
            };
            match delivery {
                Delivery::Answered(outcome) => match outcome.status {
                    Status::GOOD => return (Some(path), outcome),
                    Status::RESERVATION_CONFLICT => refused = Some(outcome),
                    _ => return (None, outcome),
                },
                Delivery::Lost(outcome) => lost = Some(outcome),
            }
        }
        (None, refused.or(lost).unwrap_or_else(unreachable_unit))
    }

    /// Sends a command to a path, unless that is known to be unreachable.
    pub(super) fn send(&mut self, path: usize, order: &Order) -> Delivery {
        self.send_with(path, &order.cdb, Data::ToDevice(&order.list))
    }

    pub(super) fn send_with(
        &mut self,
        path: usize,
        cdb: &[u8; CDB_SIZE],
        data: Data<'_>,
    ) -> Delivery {
        let (Some(route), Some(lost)) = (self.paths.get_mut(path), self.lost.get_mut(path)) else {
            return Delivery::Lost(unreachable_unit());
        };
        if *lost {
            return Delivery::Lost(unreachable_unit());
        }
        let delivery = route.send(cdb, data);
        *lost = matches!(delivery, Delivery::Lost(_));
        delivery
    }

    /// Sends a command to a path that is to follow another one: neither a unit attention nor a busy moment
    /// must make it stay behind.
    pub(super) fn insist(&mut self, path: usize, order: &Order) -> Delivery {
        let mut delivery = self.send(path, order);
        for _ in 1..ATTEMPTS {
            match delivery {
                Delivery::Answered(outcome) if is_unit_attention(&outcome) => {}
                Delivery::Answered(outcome) if is_busy(&outcome) => sleep(PAUSE),
                _ => break,
            }
            delivery = self.send(path, order);
        }
        delivery
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
        let cdb = padded(&command.encode());
        let mut data = vec![0; length.into()];
        for _ in 0..ATTEMPTS {
            match self.send_with(path, &cdb, Data::FromDevice(&mut data)) {
                Delivery::Answered(outcome) if is_unit_attention(&outcome) => {}
                Delivery::Answered(outcome) if outcome.status == Status::GOOD => {
                    data.truncate(outcome.length);
                    return Some(data);
                }
                _ => break,
            }
        }
        None
    }

    /// The reservation, if there is one and a path to ask.
    pub(super) fn reservation(&mut self) -> Option<Reservation> {
        let data = self.read(InServiceAction::ReadReservation, RESERVATION_LENGTH)?;
        ReservationData::decode(&data).ok()?.reservation
    }

    /// How many registrations there are with `key`.
    pub(super) fn registrations(&mut self, key: ReservationKey) -> Option<usize> {
        let data = self.read(InServiceAction::ReadKeys, KEYS_LENGTH)?;
        let keys = Keys::decode(&data).ok()?.complete()?;
        Some(keys.keys.iter().filter(|other| **other == key).count())
    }

    /// Scope and type of the reservation that a path with `key` holds which cannot be reached.
    ///
    /// The logical unit names the holder's key alone. It is one of ours if nobody has that key but paths
    /// of ours: if there are not more registrations with it than paths.
    pub(super) fn held_by_lost(&mut self, key: ReservationKey) -> Option<ScopeType> {
        if key.is_zero() || !self.lost.contains(&true) {
            return None;
        }
        let held = self.reservation().filter(|held| held.key == key)?;
        let registered = self.registrations(key)?;
        (registered <= self.paths.len()).then_some(held.scope_type)
    }
}

pub(super) fn is_unit_attention(outcome: &Outcome) -> bool {
    sense(outcome).is_some_and(|sense| sense.key == SenseKey::UnitAttention)
}

pub(super) fn is_good(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Answered(outcome) if outcome.status == Status::GOOD)
}

pub(super) fn is_busy(outcome: &Outcome) -> bool {
    matches!(outcome.status, Status::BUSY | Status::TASK_SET_FULL)
}

pub(super) fn sense(outcome: &Outcome) -> Option<Sense> {
    match outcome.status {
        Status::CHECK_CONDITION => Sense::decode(&outcome.sense).ok(),
        _ => None,
    }
}
