//! One PERSISTENT RESERVE OUT command over all paths to a logical unit, so that it has the effect and the
//! answer that it has on a single path.
//!
//! A reservation is kept by `I_T` nexus, and each path is one. A guest knows of one disk and thinks that it
//! is one nexus. So:
//!
//! * The command goes, as it came, to one path after another until one does it. What that path answers is
//!   the answer. A path that says RESERVATION CONFLICT does not decide yet: another one may be the one that
//!   is registered, or that holds the reservation.
//! * What is done by one nexus for itself alone is then done for the others: a registration
//!   ([`register`]), a release ([`release`]), and what a PREEMPT or a CLEAR has done to them.
//! * Unit attentions that this makes on the other paths are for other initiators. They are read here.
//! * multipathd is told the key, so that it registers a path that comes back.
//!
//! A path that cannot be reached is left out. Nothing here knows of sockets, processes or devices: it is
//! tested on logical units in software.

mod register;
mod release;

use std::fmt::Display;
use std::thread::sleep;
use std::time::Duration;

use linux_sys::sg::Data;
use pr_socket::wire::{CDB_SIZE, padded};

use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, InServiceAction, Keys, OutServiceAction,
    PersistentReserveIn, PersistentReserveOut, Reservation, ReservationData, ReservationKey,
    ScopeType, Sense, SenseKey, Status,
};
use thiserror::Error;

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

/// UNREG, in byte 17 of the parameter list of REGISTER AND MOVE (SPC-4, 6.16.4).
const UNREG: (usize, u8) = (17, 0x02);

/// A path to the logical unit. `Display` is its name.
pub trait Path: Display {
    /// Sends a command and waits for its end, for a while.
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> Delivery;
}

/// The key that a map is registered with, as multipathd knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The key.
    pub key: ReservationKey,
    /// Whether it was registered to outlast a loss of power (APTPL).
    pub aptpl: bool,
}

/// Who registers a path that comes back: multipathd.
pub trait Keeper {
    /// The key that it would register, if any.
    ///
    /// # Errors
    ///
    /// That it cannot be asked.
    fn kept(&mut self) -> Result<Option<Kept>, KeeperError>;

    /// Tells it the key.
    ///
    /// # Errors
    ///
    /// That it will not keep it.
    fn keep(&mut self, kept: Kept) -> Result<(), KeeperError>;

    /// Has it register the key that it keeps from now on: the paths are registered.
    ///
    /// # Errors
    ///
    /// That it will not.
    fn begin(&mut self) -> Result<(), KeeperError>;

    /// Has it register nothing any more.
    ///
    /// # Errors
    ///
    /// That it goes on.
    fn forget(&mut self) -> Result<(), KeeperError>;

    /// Tells it whether the map holds the reservation, if it wants to know.
    fn hold(&mut self, is_held: bool);
}

/// What multipathd could not do, and what the operator can, in a sentence.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct KeeperError(pub String);

/// How a command ended, and what the operator has to know about it.
#[derive(Debug)]
pub struct Done {
    /// The answer to the guest.
    pub outcome: Outcome,
    /// Sentences for the log.
    pub remarks: Vec<String>,
}

/// A PERSISTENT RESERVE OUT command.
struct Order {
    cdb: [u8; CDB_SIZE],
    list: Vec<u8>,
}

impl Order {
    fn new(action: OutServiceAction, scope_type: ScopeType, list: &BasicParameterList) -> Self {
        let list = list.encode();
        let cdb = PersistentReserveOut {
            service_action: action,
            scope_type,
            // 24: it names no initiator ports.
            parameter_list_length: u32::try_from(list.len()).unwrap_or(u32::MAX),
            control: 0,
        };
        Self {
            cdb: padded(&cdb.encode()),
            list,
        }
    }

    /// One that registers `new` for a nexus that is registered with `old`, or not at all if that is zero.
    fn registration(old: ReservationKey, new: ReservationKey, flags: &BasicParameterList) -> Self {
        let list = BasicParameterList {
            reservation_key: old,
            service_action_reservation_key: new,
            spec_i_pt: None,
            ..*flags
        };
        Self::new(OutServiceAction::Register, ScopeType(0), &list)
    }
}

/// The paths and multipathd, during one command.
struct Spread<'a, P, K> {
    paths: &'a mut [P],
    /// Which of them cannot be reached. They are not tried again.
    lost: Vec<bool>,
    keeper: &'a mut K,
    remarks: Vec<String>,
}

/// Executes a PERSISTENT RESERVE OUT command on the logical unit behind `paths`: all there are, whether
/// or not they can be reached.
pub fn execute<P: Path, K: Keeper>(
    paths: &mut [P],
    keeper: &mut K,
    cdb: &[u8; CDB_SIZE],
    list: &[u8],
) -> Done {
    let mut spread = Spread {
        lost: vec![false; paths.len()],
        paths,
        keeper,
        remarks: Vec::new(),
    };
    let order = Order {
        cdb: *cdb,
        list: list.to_owned(),
    };
    Done {
        outcome: spread.execute(&order),
        remarks: spread.remarks,
    }
}

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    fn execute(&mut self, order: &Order) -> Outcome {
        use OutServiceAction as Action;
        // What cannot be read is for the logical unit to refuse.
        let command = match Cdb::decode(&order.cdb) {
            Ok(Cdb::Out(command)) => Some(command),
            _ => None,
        };
        let known = command.zip(BasicParameterList::without_ids(&order.list));
        let Some((command, list)) = known else {
            return self.by_one(order).1;
        };
        match command.service_action {
            Action::Register | Action::RegisterAndIgnoreExistingKey => {
                self.register(order, command.service_action, &list)
            }
            Action::Release => self.release(order, command.scope_type, &list),
            Action::Reserve => self.reserve(order, command.scope_type, &list),
            Action::Clear => self.clear(order),
            Action::Preempt | Action::PreemptAndAbort => self.preempt(order, &list),
            Action::RegisterAndMove => self.register_and_move(order, &list),
            Action::ReplaceLostReservation => self.replace_lost_reservation(order, &list),
        }
    }

    /// Who holds the reservation already may reserve again. If that is a path that is gone, the others
    /// see somebody else's reservation.
    fn reserve(&mut self, order: &Order, kind: ScopeType, list: &BasicParameterList) -> Outcome {
        let (done, outcome) = self.by_one(order);
        let is_refused = outcome.status == Status::RESERVATION_CONFLICT;
        if is_refused && self.held_by_lost(list.reservation_key) == Some(kind) {
            return Outcome::status(Status::GOOD);
        }
        if done.is_some() {
            self.keeper.hold(true);
        }
        outcome
    }

    fn clear(&mut self, order: &Order) -> Outcome {
        let (done, outcome) = self.by_one(order);
        if let Some(path) = done {
            self.forget();
            self.read_attentions(Some(path));
        }
        outcome
    }

    /// Preempted are all who have a key, our own paths too if it is ours. The one that sends the command may
    /// stay: then the others are to stay as well.
    fn preempt(&mut self, order: &Order, list: &BasicParameterList) -> Outcome {
        let (own, preempted) = (list.reservation_key, list.service_action_reservation_key);
        let (done, outcome) = self.by_one(order);
        if let Some(path) = done {
            if preempted == own || preempted.is_zero() {
                match self.has(path, own) {
                    true => self.register_others(path, own),
                    false => self.forget(),
                }
            }
            self.read_attentions(Some(path));
            if self.reservation().is_some_and(|held| held.key == own) {
                self.keeper.hold(true);
            }
        }
        outcome
    }

    fn register_and_move(&mut self, order: &Order, list: &BasicParameterList) -> Outcome {
        let (done, outcome) = self.by_one(order);
        let Some(path) = done else {
            return outcome;
        };
        let (byte, bit) = UNREG;
        if order.list.get(byte).is_some_and(|flags| flags & bit != 0) {
            self.forget();
            let own = list.reservation_key;
            let none = BasicParameterList::default();
            let order = Order::registration(own, ReservationKey::ZERO, &none);
            self.unregister_others(path, &order, own);
        }
        self.keeper.hold(false);
        self.read_attentions(Some(path));
        outcome
    }

    fn replace_lost_reservation(&mut self, order: &Order, list: &BasicParameterList) -> Outcome {
        let key = list.service_action_reservation_key;
        let (done, outcome) = self.by_one(order);
        if let Some(path) = done {
            let kept = Kept {
                key,
                aptpl: list.aptpl,
            };
            self.register_others(path, key);
            if let Err(error) = self.keeper.keep(kept).and_then(|()| self.keeper.begin()) {
                self.remarks.push(error.to_string());
            }
            self.read_attentions(Some(path));
        }
        outcome
    }

    /// Asks one path after another until one does it, or refuses it for a reason that all would have. Gives
    /// the path that has done it, and the answer.
    fn by_one(&mut self, order: &Order) -> (Option<usize>, Outcome) {
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
    fn send(&mut self, path: usize, order: &Order) -> Delivery {
        self.send_with(path, &order.cdb, Data::ToDevice(&order.list))
    }

    fn send_with(&mut self, path: usize, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> Delivery {
        let (Some(route), Some(lost)) = (self.paths.get_mut(path), self.lost.get_mut(path)) else {
            return Delivery::Lost(unreachable_unit());
        };
        if *lost {
            return Delivery::Lost(unreachable_unit());
        }
        let delivery = match route.send(cdb, data) {
            Delivery::Answered(outcome) if is_unavailable(&outcome) => Delivery::Lost(outcome),
            delivery => delivery,
        };
        *lost = matches!(delivery, Delivery::Lost(_));
        delivery
    }

    /// Sends a command to a path that is to follow another one: neither a unit attention nor a busy moment
    /// must make it stay behind.
    fn insist(&mut self, path: usize, order: &Order) -> Delivery {
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
    fn others(&self, path: usize) -> impl Iterator<Item = usize> + use<P, K> {
        (0..self.paths.len()).filter(move |other| *other != path)
    }

    /// Reads the unit attentions of all paths but one.
    fn read_attentions(&mut self, except: Option<usize>) {
        for path in 0..self.paths.len() {
            if Some(path) != except {
                self.read_from(path, InServiceAction::ReadReservation, RESERVATION_LENGTH);
            }
        }
    }

    /// What the logical unit says to PERSISTENT RESERVE IN by the first path that gives an answer.
    fn read(&mut self, action: InServiceAction, length: u16) -> Option<Vec<u8>> {
        (0..self.paths.len()).find_map(|path| self.read_from(path, action, length))
    }

    fn read_from(&mut self, path: usize, action: InServiceAction, length: u16) -> Option<Vec<u8>> {
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
    fn reservation(&mut self) -> Option<Reservation> {
        let data = self.read(InServiceAction::ReadReservation, RESERVATION_LENGTH)?;
        ReservationData::decode(&data).ok()?.reservation
    }

    /// How many registrations there are with `key`.
    fn registrations(&mut self, key: ReservationKey) -> Option<usize> {
        let data = self.read(InServiceAction::ReadKeys, KEYS_LENGTH)?;
        let keys = Keys::decode(&data).ok()?.complete()?;
        Some(keys.keys.iter().filter(|other| **other == key).count())
    }

    /// Scope and type of the reservation that a path with `key` holds which cannot be reached.
    ///
    /// The logical unit names the holder's key alone. It is one of ours if nobody has that key but paths
    /// of ours: if there are not more registrations with it than paths.
    fn held_by_lost(&mut self, key: ReservationKey) -> Option<ScopeType> {
        if key.is_zero() || !self.lost.contains(&true) {
            return None;
        }
        let held = self.reservation().filter(|held| held.key == key)?;
        let registered = self.registrations(key)?;
        (registered <= self.paths.len()).then_some(held.scope_type)
    }

    fn forget(&mut self) {
        if let Err(error) = self.keeper.forget() {
            self.remarks.push(format!(
                "it is not registered any more, but a path that comes back may be: {error}"
            ));
        }
    }
}

/// No path has taken the command.
fn unreachable_unit() -> Outcome {
    Outcome::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
    )
}

/// The port of this path is in standby or unavailable (SPC-4, 5.15, asymmetric access).
#[must_use]
pub fn is_unavailable(outcome: &Outcome) -> bool {
    sense(outcome).is_some_and(|sense| {
        let code = sense.code;
        sense.key == SenseKey::NotReady && code.asc == 0x04 && matches!(code.ascq, 0x0b | 0x0c)
    })
}

fn is_unit_attention(outcome: &Outcome) -> bool {
    sense(outcome).is_some_and(|sense| sense.key == SenseKey::UnitAttention)
}

fn is_good(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Answered(outcome) if outcome.status == Status::GOOD)
}

fn is_busy(outcome: &Outcome) -> bool {
    matches!(outcome.status, Status::BUSY | Status::TASK_SET_FULL)
}

fn sense(outcome: &Outcome) -> Option<Sense> {
    match outcome.status {
        Status::CHECK_CONDITION => Sense::decode(&outcome.sense).ok(),
        _ => None,
    }
}
