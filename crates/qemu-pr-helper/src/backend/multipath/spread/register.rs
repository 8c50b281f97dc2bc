//! Registrations: each path has one of its own, and all are to have the same key.

use scsi_pr::{
    AdditionalSense, BasicParameterList, Capabilities, InServiceAction, OutServiceAction,
    ReservationKey, ScopeType, Status,
};

use super::asking::{is_good, sense};
use super::{Keeper, KeeperError, Kept, Order, Path, Spread, unreachable_unit};
use crate::backend::sg::Delivery;
use crate::outcome::Outcome;

/// `SPEC_I_PT`, in byte 20 of the parameter list (SPC-4, 6.16.3).
const SPEC_I_PT: (usize, u8) = (20, 0x08);

/// Bytes that REPORT CAPABILITIES gives.
const CAPABILITIES_LENGTH: u16 = 8;

/// A type for a PREEMPT that finds no reservation: Write Exclusive - Registrants Only of the logical unit.
const UNUSED_TYPE: ScopeType = ScopeType(0x05);

/// What came of a path that was to follow.
enum Followed {
    /// It has the new key. It had this one before; zero stands for none.
    From(ReservationKey),
    /// It cannot be reached.
    Lost,
    /// It refused.
    Refused(Outcome),
}

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// REGISTER, and REGISTER AND IGNORE EXISTING KEY.
    pub(super) fn register(
        &mut self,
        order: &Order,
        action: OutServiceAction,
        list: &BasicParameterList,
    ) -> Outcome {
        let new = list.service_action_reservation_key;
        let before = match self.keeper.kept() {
            Ok(kept) => kept,
            // To take registrations away needs nobody's help.
            Err(_) if new.is_zero() => None,
            Err(error) => return self.cannot_keep(&error),
        };
        let (first, outcome) = match self.by_one(order) {
            (Some(path), outcome) => (path, outcome),
            (None, outcome) => return outcome,
        };
        let old = match action {
            OutServiceAction::Register => list.reservation_key,
            // The command did not say; multipathd may know.
            _ => before.map_or(ReservationKey::ZERO, |kept| kept.key),
        };
        if new.is_zero() {
            self.forget();
            let order = Order::new(action, ScopeType(0), list);
            self.unregister_others(first, &order, old);
            self.unregister_lost(first, old, list);
            return outcome;
        }
        match self.register_all(first, order, old, before, list) {
            Ok(()) => outcome,
            Err(refusal) => {
                self.keep_again(before);
                refusal
            }
        }
    }

    /// Registers the other paths as the `first` one was, which had the `old` key, and has multipathd do so
    /// with those that come back.
    ///
    /// # Errors
    ///
    /// What a path or multipathd answered. The paths have the keys again that they had.
    fn register_all(
        &mut self,
        first: usize,
        order: &Order,
        old: ReservationKey,
        before: Option<Kept>,
        list: &BasicParameterList,
    ) -> Result<(), Outcome> {
        let new = list.service_action_reservation_key;
        let mut done = vec![(first, old)];
        let kept = Kept {
            key: new,
            aptpl: list.aptpl,
        };
        // Clusters register the same key again and again.
        let is_new = before != Some(kept);
        if is_new && let Err(error) = self.keeper.keep(kept) {
            self.undo(&done, order, list);
            return Err(self.cannot_keep(&error));
        }
        for path in self.others(first) {
            match self.follow(path, order, old, list) {
                Followed::From(old) => done.push((path, old)),
                Followed::Lost => {}
                Followed::Refused(outcome) => {
                    self.undo(&done, order, list);
                    return Err(outcome);
                }
            }
        }
        if is_new && let Err(error) = self.keeper.begin() {
            self.undo(&done, order, list);
            return Err(self.cannot_keep(&error));
        }
        if !self.stays_fenced(first, new, list)
            && old != new
            && let Some(kind) = self.held_by_lost(old)
        {
            self.take_over(first, old, new, kind);
        }
        Ok(())
    }

    /// A path that cannot be reached holds the reservation with a key that the map does not have any more.
    /// Else nobody could release it.
    fn take_over(
        &mut self,
        first: usize,
        old: ReservationKey,
        new: ReservationKey,
        kind: ScopeType,
    ) {
        let list = BasicParameterList {
            reservation_key: new,
            service_action_reservation_key: old,
            ..BasicParameterList::default()
        };
        let order = Order::new(OutServiceAction::Preempt, kind, &list);
        if !is_good(&self.insist(first, &order)) {
            self.remarks.push(format!(
                "the reservation is still held with the old key {old}, by a path that cannot be reached"
            ));
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
        old: ReservationKey,
        list: &BasicParameterList,
    ) -> Followed {
        let new = list.service_action_reservation_key;
        let mut delivery = self.insist(path, order);
        match delivery {
            // The first path has registered the ports that are named: this one leads to the same target
            // port.
            Delivery::Answered(outcome) if names_ports(order) && is_bad_list(&outcome) => {
                delivery = self.insist(path, &Order::registration(old, new, list));
            }
            _ => {}
        }
        let mut known = vec![old];
        for guess in [new, ReservationKey::ZERO] {
            match delivery {
                Delivery::Answered(outcome) if outcome.status == Status::RESERVATION_CONFLICT => {}
                _ => break,
            }
            // A guest that takes a path for not registered has to hear that it is.
            if known.contains(&guess) {
                continue;
            }
            known.push(guess);
            delivery = self.insist(path, &Order::registration(guess, new, list));
        }
        match delivery {
            Delivery::Lost(_) => Followed::Lost,
            Delivery::Answered(outcome) if outcome.status == Status::GOOD => {
                Followed::From(known.pop().unwrap_or_default())
            }
            Delivery::Answered(outcome) => Followed::Refused(outcome),
        }
    }

    /// Gives the paths the keys back that they had before.
    fn undo(&mut self, done: &[(usize, ReservationKey)], order: &Order, list: &BasicParameterList) {
        let new = list.service_action_reservation_key;
        for &(path, old) in done {
            let delivery = match old == new {
                true => continue,
                false => self.insist(path, &Order::registration(new, old, list)),
            };
            if !is_good(&delivery) {
                let text = format!("could not be given key {old} back, it has key {new}");
                self.remark_on(path, &text);
            }
        }
        if names_ports(order) {
            self.remarks.push(format!(
                "initiator ports that a refused command named (SPEC_I_PT) may be registered with key {new}"
            ));
        }
    }

    fn keep_again(&mut self, before: Option<Kept>) {
        let result = match before {
            Some(kept) => self.keeper.keep(kept),
            None => self.keeper.forget(),
        };
        if let Err(error) = result {
            self.remarks
                .push(format!("multipathd keeps a key that was refused: {error}"));
        }
    }

    /// Without multipathd a path that comes back would not be registered, and writes by it fail.
    fn cannot_keep(&mut self, error: &KeeperError) -> Outcome {
        self.remarks.push(format!("registration refused: {error}"));
        unreachable_unit()
    }

    /// Takes the registrations of all paths but one away, as `order` does for one that has `key`.
    pub(super) fn unregister_others(&mut self, first: usize, order: &Order, key: ReservationKey) {
        for path in self.others(first) {
            match self.insist(path, order) {
                Delivery::Answered(outcome) if outcome.status == Status::GOOD => {}
                // It may have been without one already.
                Delivery::Answered(_) if self.has_none(path) => {}
                Delivery::Answered(outcome) => self.remark_on(
                    path,
                    &format!(
                        "refuses to be unregistered ({}): it has another key than {key}",
                        outcome.status
                    ),
                ),
                Delivery::Lost(_) => {}
            }
        }
    }

    /// Takes the registrations away of paths that cannot be reached, and with them a reservation that one
    /// of them holds.
    ///
    /// Only they can give them up; others can preempt them. For that, the first path registers with the
    /// same key once more.
    fn unregister_lost(&mut self, first: usize, key: ReservationKey, flags: &BasicParameterList) {
        let lost = self.lost.iter().filter(|lost| **lost).count();
        if key.is_zero() || lost == 0 {
            return;
        }
        let left = self.registrations(key);
        if left == Some(0) {
            return;
        }
        // More than ours would be somebody else's too.
        let is_ours = left.is_some_and(|left| left <= lost);
        if !is_ours || !self.preempt_lost(first, key, flags) {
            self.remarks.push(format!(
                "{lost} of its paths cannot be reached, and may still be registered with key {key}"
            ));
        }
    }

    fn preempt_lost(
        &mut self,
        first: usize,
        key: ReservationKey,
        flags: &BasicParameterList,
    ) -> bool {
        let list = BasicParameterList {
            reservation_key: key,
            service_action_reservation_key: key,
            ..BasicParameterList::default()
        };
        let kind = self
            .reservation()
            .map_or(UNUSED_TYPE, |held| held.scope_type);
        let preempt = Order::new(OutServiceAction::Preempt, kind, &list);
        let registered = self.insist(
            first,
            &Order::registration(ReservationKey::ZERO, key, flags),
        );
        if !is_good(&registered) {
            return false;
        }
        let preempted = self.insist(first, &preempt);
        // It may have been preempted itself.
        let unregister = Order::registration(key, ReservationKey::ZERO, flags);
        self.insist(first, &unregister);
        is_good(&preempted)
    }

    /// Whether a path is not registered: only then may it take nothing away.
    fn has_none(&mut self, path: usize) -> bool {
        let nothing = BasicParameterList::default();
        self.has(path, ReservationKey::ZERO, &nothing)
    }

    /// Whether a path is registered with `key`: only then may it be registered with it again.
    pub(super) fn has(
        &mut self,
        path: usize,
        key: ReservationKey,
        flags: &BasicParameterList,
    ) -> bool {
        is_good(&self.insist(path, &Order::registration(key, key, flags)))
    }

    /// What a registration that is made again says beside the key: what the logical unit does already. The
    /// last one that it gets decides for all.
    pub(super) fn flags(&mut self) -> BasicParameterList {
        let data = self.read(InServiceAction::ReportCapabilities, CAPABILITIES_LENGTH);
        let capabilities = data.and_then(|data| Capabilities::decode(&data).ok());
        BasicParameterList {
            aptpl: capabilities
                .is_some_and(|capabilities| capabilities.persist_through_power_loss_active),
            ..BasicParameterList::default()
        }
    }

    /// Whether somebody has taken the first path's registration away while the others got theirs, and then
    /// takes these away as well.
    ///
    /// Who preempts us means all of us, and has been told that it is done. Paths that were registered a
    /// moment later would be the host that everybody believes to be fenced.
    fn stays_fenced(
        &mut self,
        first: usize,
        key: ReservationKey,
        flags: &BasicParameterList,
    ) -> bool {
        if self.paths.len() < 2 || self.has(first, key, flags) {
            return false;
        }
        self.forget();
        for path in self.others(first) {
            self.insist(path, &Order::registration(key, ReservationKey::ZERO, flags));
        }
        true
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
            if !is_good(&delivery) {
                let order = Order::registration(ReservationKey::ZERO, key, flags);
                delivery = self.insist(path, &order);
            }
            if let Delivery::Answered(outcome) = delivery
                && outcome.status != Status::GOOD
            {
                let text = format!("cannot be registered with key {key}: {}", outcome.status);
                self.remark_on(path, &text);
            }
        }
        self.stays_fenced(first, key, flags);
    }

    fn remark_on(&mut self, path: usize, text: &str) {
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
fn is_bad_list(outcome: &Outcome) -> bool {
    sense(outcome)
        .is_some_and(|sense| sense.code == AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST)
}
