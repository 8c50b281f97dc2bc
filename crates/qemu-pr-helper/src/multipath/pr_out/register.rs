//! Registrations: each path has one of its own, and all are to have the same key.

use scsi_pr::{
    AdditionalSense, BasicParameterList, OutServiceAction, ReservationKey, ScopeType, Status,
};

use super::send::{is_good, sense};
use super::{Keeper, KeeperError, Kept, Order, Path, Spread, unreachable_unit};
use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

/// `SPEC_I_PT`, in byte 20 of the parameter list (SPC-4, 6.16.3).
const SPEC_I_PT: (usize, u8) = (20, 0x08);

/// A path that has the new key, and the one that it had before: zero stands for none. REGISTER AND IGNORE
/// EXISTING KEY does not tell.
type Registered = (usize, Option<ReservationKey>);

/// What came of a path that was to follow.
enum Followed {
    /// It has the new key.
    Registered(Option<ReservationKey>),
    /// It cannot be reached.
    Lost,
    /// It refused.
    Refused(CommandResult),
    /// Somebody has preempted its old key in this very moment.
    Fenced(CommandResult),
}

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// REGISTER, and REGISTER AND IGNORE EXISTING KEY.
    pub(super) fn register(
        &mut self,
        order: &Order,
        action: OutServiceAction,
        list: &BasicParameterList,
    ) -> CommandResult {
        let new = list.service_action_reservation_key;
        let old = (action == OutServiceAction::Register).then_some(list.reservation_key);
        if new.is_zero() {
            return match old {
                // Whoever is not registered may say that it stays so.
                Some(ReservationKey::ZERO) => self.by_one(order).1,
                _ => self.unregister(order, action, old, list),
            };
        }
        let before = match self.keeper.kept() {
            Ok(kept) => kept,
            Err(error) => return self.cannot_keep(&error),
        };
        let kept = Kept {
            key: new,
            aptpl: list.aptpl,
        };
        // Clusters register the same key again and again.
        let is_new = before != Some(kept);
        // Before the paths: what it refuses is then nowhere.
        if is_new && let Err(error) = self.keeper.keep(kept) {
            self.keep_again(before);
            return self.cannot_keep(&error);
        }
        let result = self.register_paths(order, old, before, list);
        if is_new && !self.was_fenced {
            match &result {
                Ok(_) => self.begin(),
                Err(_) => self.keep_again(before),
            }
        }
        let (Ok(outcome) | Err(outcome)) = result;
        outcome
    }

    /// Registers one path after another.
    ///
    /// # Errors
    ///
    /// The answer, if it is no success. The paths have the keys that they had before.
    fn register_paths(
        &mut self,
        order: &Order,
        old: Option<ReservationKey>,
        before: Option<Kept>,
        list: &BasicParameterList,
    ) -> Result<CommandResult, CommandResult> {
        let new = list.service_action_reservation_key;
        // What a path has to tell from before, of our own PREEMPT while it was away too, must not be taken
        // for somebody who preempts us now. What the first one has to tell is the guest's.
        self.read_attentions(Some(0));
        let (first, outcome) = match self.by_one(order) {
            (Some(path), outcome) => (path, outcome),
            (None, outcome) => match self.registered_meanwhile(&outcome, old, before, list) {
                Some(path) => (path, CommandResult::from_status(Status::GOOD)),
                None => return Err(outcome),
            },
        };
        let mut done = vec![(first, old)];
        for path in self.others(first) {
            match self.follow(path, order, old, list) {
                Followed::Registered(old) => done.push((path, old)),
                Followed::Lost => self.remark_on(
                    path,
                    "cannot be reached and is not registered: multipathd does it when it is back",
                ),
                Followed::Refused(outcome) => {
                    self.undo(&done, order, before, list);
                    return Err(outcome);
                }
                Followed::Fenced(outcome) => {
                    self.unregister_fenced(first, new, list);
                    self.insist(first, &Order::registration(new, ReservationKey::ZERO, list));
                    return Err(outcome);
                }
            }
        }
        match old {
            _ if self.is_fenced(first, new, list) => self.unregister_fenced(first, new, list),
            Some(old) if old != new => self.preempt_old_key(first, old, new),
            _ => {}
        }
        Ok(outcome)
    }

    /// A path may refuse the old key because it has the new one already, and the path that has the old one is
    /// gone. The guest has registered the old key, as multipathd knows it; since then it was multipathd who
    /// registered a path that had come back, or an answer to the guest was lost. Gives such a path, if no other one
    /// says that it lacks the new key: it may have lost the old one to another host, who has fenced the guest.
    fn registered_meanwhile(
        &mut self,
        refusal: &CommandResult,
        old: Option<ReservationKey>,
        before: Option<Kept>,
        list: &BasicParameterList,
    ) -> Option<usize> {
        let new = list.service_action_reservation_key;
        let was_old = before.is_some_and(|before| Some(before.key) == old && before.key != new);
        let is_conflict = refusal.status == Status::RESERVATION_CONFLICT;
        if !is_conflict || !was_old {
            return None;
        }
        let paths = 0..self.paths.len();
        let has: Vec<_> = paths.map(|path| self.has(path, new, list)).collect();
        match has.contains(&Some(false)) {
            true => None,
            false => has.iter().position(|has| *has == Some(true)),
        }
    }

    /// Registers a path as the first one was. That one had the `old` key.
    ///
    /// A path may refuse the old key because it has the new one already: from an attempt that was broken
    /// off, or because the logical unit makes no difference between ports (`ALL_TG_PT`). Or it may have
    /// lost the old one: it was away, and nobody registered it again.
    fn follow(
        &mut self,
        path: usize,
        order: &Order,
        old: Option<ReservationKey>,
        list: &BasicParameterList,
    ) -> Followed {
        let new = list.service_action_reservation_key;
        let mut delivery = self.insist(path, order);
        let was_preempted = self.was_preempted;
        match delivery {
            // The first path has registered the ports that are named: this one leads to the same target
            // port.
            TransportOutcome::Completed(outcome) if names_ports(order) && is_bad_list(&outcome) => {
                let old = old.unwrap_or_default();
                delivery = self.insist(path, &Order::registration(old, new, list));
            }
            _ => {}
        }
        let mut known = old;
        // A guest that takes a path for not registered has to hear that it is.
        let others = [new, ReservationKey::ZERO];
        let others = others.into_iter().filter(|guess| Some(*guess) != old);
        // Between two of these multipathd may have registered it.
        let again = old.filter(|old| !old.is_zero());
        let again = again.into_iter().flat_map(|old| [old, new]);
        for guess in others.chain(again) {
            let outcome = match delivery {
                TransportOutcome::Completed(outcome)
                    if outcome.status == Status::RESERVATION_CONFLICT =>
                {
                    outcome
                }
                _ => break,
            };
            if old.is_some() && guess.is_zero() && was_preempted {
                return Followed::Fenced(outcome);
            }
            known = Some(guess);
            delivery = self.insist(path, &Order::registration(guess, new, list));
        }
        match delivery {
            TransportOutcome::NotDelivered(_) | TransportOutcome::Unknown(_) => Followed::Lost,
            TransportOutcome::Completed(outcome) if outcome.status == Status::GOOD => {
                Followed::Registered(known)
            }
            TransportOutcome::Completed(outcome) => Followed::Refused(outcome),
        }
    }

    /// Gives the paths the keys back that they had before, where that is known.
    fn undo(
        &mut self,
        done: &[Registered],
        order: &Order,
        before: Option<Kept>,
        list: &BasicParameterList,
    ) {
        let new = list.service_action_reservation_key;
        let flags = BasicParameterList {
            aptpl: before.map_or(list.aptpl, |before| before.aptpl),
            ..list.clone()
        };
        for &(path, old) in done {
            let is_undone = match old {
                Some(old) if old == new => true,
                Some(old) => is_good(&self.insist(path, &Order::registration(new, old, &flags))),
                None => false,
            };
            if !is_undone {
                let text = format!("is registered with key {new}, although that was refused");
                self.remark_on(path, &text);
            }
        }
        if names_ports(order) {
            self.remarks.push(format!(
                "initiator ports that a refused command named (SPEC_I_PT) may be registered with key {new}"
            ));
        }
    }

    fn begin(&mut self) {
        if let Err(error) = self.keeper.begin() {
            self.remarks.push(format!(
                "registered, but paths that come back will not be: {error}"
            ));
        }
    }

    fn keep_again(&mut self, before: Option<Kept>) {
        let result = match before {
            Some(kept) => self.keeper.keep(kept).and_then(|()| self.keeper.begin()),
            None => self.keeper.forget(),
        };
        if let Err(error) = result {
            self.remarks.push(format!(
                "multipathd may keep a key that was refused: {error}"
            ));
        }
    }

    /// Without multipathd a path that comes back would not be registered, and writes by it fail.
    fn cannot_keep(&mut self, error: &KeeperError) -> CommandResult {
        self.remarks.push(format!("registration refused: {error}"));
        unreachable_unit()
    }

    /// Takes all registrations away. That needs nobody's help.
    fn unregister(
        &mut self,
        order: &Order,
        action: OutServiceAction,
        old: Option<ReservationKey>,
        list: &BasicParameterList,
    ) -> CommandResult {
        let (first, outcome) = match self.by_one(order) {
            (Some(path), outcome) => (path, outcome),
            (None, outcome) => return outcome,
        };
        self.forget();
        let order = Order::new(action, ScopeType(0), list);
        if let Err(outcome) = self.unregister_others(first, &order) {
            return outcome;
        }
        self.unregister_absent(first, old, list);
        outcome
    }

    /// Takes the registrations of all paths but one away, with this command.
    ///
    /// # Errors
    ///
    /// The answer of a path that keeps its registration. When the guest tries again, it is the first.
    pub(super) fn unregister_others(
        &mut self,
        first: usize,
        order: &Order,
    ) -> Result<(), CommandResult> {
        for path in self.others(first) {
            match self.insist(path, order) {
                TransportOutcome::NotDelivered(_) | TransportOutcome::Unknown(_) => {}
                TransportOutcome::Completed(outcome) => match outcome.status {
                    Status::GOOD => {}
                    // It may have been without one already.
                    Status::RESERVATION_CONFLICT => {
                        if self.has_none(path) == Some(false) {
                            self.remark_on(path, "stays registered: it has another key");
                        }
                    }
                    _ => return Err(outcome),
                },
            }
        }
        Ok(())
    }

    /// Registers all paths but one with `key`, which some of them have.
    pub(super) fn register_others(
        &mut self,
        first: usize,
        key: ReservationKey,
        flags: &BasicParameterList,
    ) {
        for path in self.others(first) {
            let mut delivery = self.insist(path, &Order::registration(key, key, flags));
            if matches!(delivery, TransportOutcome::Completed(_)) && !is_good(&delivery) {
                let order = Order::registration(ReservationKey::ZERO, key, flags);
                delivery = self.insist(path, &order);
            }
            // One that is away is multipathd's.
            if let TransportOutcome::Completed(outcome) = delivery
                && outcome.status != Status::GOOD
            {
                let status = outcome.status;
                let text = format!("could not be registered again with key {key}: {status}");
                self.remark_on(path, &text);
            }
        }
        if self.is_fenced(first, key, flags) {
            self.unregister_fenced(first, key, flags);
        }
    }

    /// Whether somebody has taken the first path's registration away while the others got theirs.
    fn is_fenced(&mut self, first: usize, key: ReservationKey, flags: &BasicParameterList) -> bool {
        self.paths.len() > 1 && self.has(first, key, flags) == Some(false)
    }

    /// Takes the new registrations of the other paths away.
    ///
    /// Who preempts us means all of us, and has been told that it is done. Paths that were registered a
    /// moment later would be the host that everybody believes to be fenced.
    fn unregister_fenced(&mut self, first: usize, key: ReservationKey, flags: &BasicParameterList) {
        self.was_fenced = true;
        self.forget();
        for path in self.others(first) {
            self.insist(path, &Order::registration(key, ReservationKey::ZERO, flags));
        }
    }

    /// Whether a path is registered with `key`, if it says: only then may it be registered with it again.
    pub(super) fn has(
        &mut self,
        path: usize,
        key: ReservationKey,
        flags: &BasicParameterList,
    ) -> Option<bool> {
        match self.insist(path, &Order::registration(key, key, flags)) {
            TransportOutcome::Completed(outcome) => match outcome.status {
                Status::GOOD => Some(true),
                Status::RESERVATION_CONFLICT => Some(false),
                _ => None,
            },
            TransportOutcome::NotDelivered(_) | TransportOutcome::Unknown(_) => None,
        }
    }

    /// Whether a path is not registered: only then may it take nothing away.
    fn has_none(&mut self, path: usize) -> Option<bool> {
        self.has(path, ReservationKey::ZERO, &BasicParameterList::default())
    }

    pub(super) fn remark_on(&mut self, path: usize, text: &str) {
        if let Some(path) = self.paths.get(path) {
            self.remarks.push(format!("path {path} {text}"));
        }
    }
}

fn names_ports(order: &Order) -> bool {
    let (byte, bit) = SPEC_I_PT;
    order.list.get(byte).is_some_and(|flags| flags & bit != 0)
}

/// INVALID FIELD IN PARAMETER LIST: what a logical unit says to a port that is registered already.
fn is_bad_list(outcome: &CommandResult) -> bool {
    sense(outcome)
        .is_some_and(|sense| sense.code == AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST)
}
