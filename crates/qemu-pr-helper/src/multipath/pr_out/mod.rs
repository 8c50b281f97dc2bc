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
//!   (`register`), a release (`release`), and what a PREEMPT or a CLEAR has done to them.
//! * Unit attentions that this makes on the other paths are for other initiators. They are read here.
//! * multipathd is told the key, so that it registers a path that comes back.
//!
//! A path that cannot be reached is left out, and what it leaves behind is seen to (`absent`). Nothing here
//! knows of sockets, processes or devices: it is tested on logical units in software.

mod register;
mod release;
mod send;
mod unreachable;

use std::fmt::Display;

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::{CDB_SIZE, pad_cdb};

use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, OutServiceAction, PersistentReserveOut,
    ReservationKey, ScopeType, SenseKey, Status,
};
use thiserror::Error;

use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

/// UNREG and APTPL, in byte 17 of the parameter list of REGISTER AND MOVE (SPC-4, 6.16.4).
const MOVE_FLAGS: (usize, u8, u8) = (17, 0x02, 0x01);

/// A path to the logical unit. `Display` is its name.
pub trait Path: Display {
    /// Sends a command and waits for its end, for a while.
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome;

    /// Waits a moment, before it is asked again.
    fn pause(&self);
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
    pub outcome: CommandResult,
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
            cdb: pad_cdb(&cdb.encode()),
            list,
        }
    }

    /// Whether it can be sent twice: done already, it is answered as if it had not been.
    fn can_be_repeated(&self) -> bool {
        use OutServiceAction as Action;
        let action = match Cdb::decode(&self.cdb) {
            Ok(Cdb::Out(command)) => command.service_action,
            _ => return true,
        };
        matches!(
            action,
            Action::Register
                | Action::RegisterAndIgnoreExistingKey
                | Action::Reserve
                | Action::Release
        )
    }

    /// A PREEMPT of all who have the key `victim`, by one who has the key `own`.
    fn preempt(own: ReservationKey, victim: ReservationKey, kind: ScopeType) -> Self {
        let list = BasicParameterList {
            reservation_key: own,
            service_action_reservation_key: victim,
            ..BasicParameterList::default()
        };
        Self::new(OutServiceAction::Preempt, kind, &list)
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
    /// Which of them could not be reached when they were asked last.
    lost: Vec<bool>,
    /// Whether the path that was asked last had a unit attention that its registration was preempted.
    was_preempted: bool,
    /// Whether another host has taken our registrations away during this command.
    was_fenced: bool,
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
        was_preempted: false,
        was_fenced: false,
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
    fn execute(&mut self, order: &Order) -> CommandResult {
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
    fn reserve(
        &mut self,
        order: &Order,
        kind: ScopeType,
        list: &BasicParameterList,
    ) -> CommandResult {
        let (done, outcome) = self.by_one(order);
        let is_refused = outcome.status == Status::RESERVATION_CONFLICT;
        if is_refused && self.held_by_absent(list.reservation_key) == Some(kind) {
            return CommandResult::from_status(Status::GOOD);
        }
        if done.is_some() {
            self.keeper.hold(true);
        }
        outcome
    }

    fn clear(&mut self, order: &Order) -> CommandResult {
        let (done, outcome) = self.by_one(order);
        if let Some(path) = done {
            self.forget();
            self.read_attentions(Some(path));
        }
        outcome
    }

    /// Preempted are all who have a key, our own paths too if it is ours. The one that sends the command may
    /// stay: then the others are to stay as well.
    fn preempt(&mut self, order: &Order, list: &BasicParameterList) -> CommandResult {
        let (own, preempted) = (list.reservation_key, list.service_action_reservation_key);
        let (done, outcome) = self.by_one(order);
        if let Some(path) = done {
            if preempted == own || preempted.is_zero() {
                let flags = self.flags();
                match self.has(path, own, &flags) {
                    Some(false) => self.forget(),
                    _ => self.register_others(path, own, &flags),
                }
            }
            self.read_attentions(Some(path));
            if self.reservation().is_some_and(|held| held.key == own) {
                self.keeper.hold(true);
            }
        }
        outcome
    }

    fn register_and_move(&mut self, order: &Order, list: &BasicParameterList) -> CommandResult {
        let (done, outcome) = self.by_one(order);
        let Some(path) = done else {
            return outcome;
        };
        let (byte, unreg, aptpl) = MOVE_FLAGS;
        let flags = order.list.get(byte).copied().unwrap_or_default();
        if flags & unreg != 0 {
            self.forget();
            let own = list.reservation_key;
            let flags = BasicParameterList {
                aptpl: flags & aptpl != 0,
                ..BasicParameterList::default()
            };
            let order = Order::registration(own, ReservationKey::ZERO, &flags);
            if let Err(outcome) = self.unregister_others(path, &order) {
                return outcome;
            }
        }
        self.keeper.hold(false);
        self.read_attentions(Some(path));
        outcome
    }

    fn replace_lost_reservation(
        &mut self,
        order: &Order,
        list: &BasicParameterList,
    ) -> CommandResult {
        let key = list.service_action_reservation_key;
        let (done, outcome) = self.by_one(order);
        if let Some(path) = done {
            let kept = Kept {
                key,
                aptpl: list.aptpl,
            };
            self.register_others(path, key, list);
            if let Err(error) = self.keeper.keep(kept).and_then(|()| self.keeper.begin()) {
                self.remarks.push(error.to_string());
            }
            self.read_attentions(Some(path));
        }
        outcome
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
fn unreachable_unit() -> CommandResult {
    CommandResult::check_condition(
        SenseKey::AbortedCommand,
        AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE,
    )
}
