//! RELEASE: only the nexus that holds a reservation can end it, and the others may not know who that is.

use scsi_pr::{
    AdditionalSense, BasicParameterList, OutServiceAction, ReservationKey, ScopeType, SenseKey,
    Status,
};

use super::{Keeper, Order, Path, Spread, unreachable_unit};
use crate::backend::sg::Delivery;
use crate::outcome::Outcome;

/// What the paths that were asked have said.
#[derive(Default)]
struct Answers {
    /// GOOD: released, or nothing to release.
    good: Option<Outcome>,
    /// RESERVATION CONFLICT: this path is not registered with that key.
    refused: Option<Outcome>,
    /// No answer.
    lost: Option<Outcome>,
}

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// RELEASE, by every path: to who is registered and holds nothing, it does nothing and is GOOD.
    pub(super) fn release(
        &mut self,
        order: &Order,
        kind: ScopeType,
        list: &BasicParameterList,
    ) -> Outcome {
        let mut answers = Answers::default();
        for path in 0..self.paths.len() {
            // Until one has answered, a unit attention is for the guest.
            let delivery = match answers.good.or(answers.refused) {
                None => self.send(path, order),
                Some(_) => self.insist(path, order),
            };
            match delivery {
                Delivery::Answered(outcome) => match outcome.status {
                    Status::GOOD => answers.good = Some(outcome),
                    Status::RESERVATION_CONFLICT => answers.refused = Some(outcome),
                    // Above all: the holder says that scope or type is another one.
                    _ => return outcome,
                },
                Delivery::Lost(outcome) => answers.lost = Some(outcome),
            }
        }
        let Some(good) = answers.good else {
            let answer = answers.refused.or(answers.lost);
            return answer.unwrap_or_else(unreachable_unit);
        };
        if let Some(refused) = answers.refused
            && self.is_holder_among_us(list.reservation_key)
        {
            return refused;
        }
        match self.held_by_lost(list.reservation_key) {
            None => {}
            Some(held) if held != kind => {
                return Outcome::check_condition(
                    SenseKey::IllegalRequest,
                    AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION,
                );
            }
            Some(_) => {
                if let Err(outcome) = self.release_for_lost(order, kind, list.reservation_key) {
                    return outcome;
                }
            }
        }
        self.read_attentions(None);
        self.keeper.hold(false);
        good
    }

    /// Whether it was the holder who has refused. LIO answers a holder who is wrong about key or type with
    /// RESERVATION CONFLICT, and who holds nothing with GOOD, whatever the key. A path that refuses may also
    /// be one that has come back and is not registered yet; then what is reserved is somebody else's.
    fn is_holder_among_us(&mut self, key: ReservationKey) -> bool {
        if self.lost.contains(&true) {
            return false;
        }
        let Some(held) = self.reservation() else {
            return false;
        };
        let kept = self.keeper.kept().ok().flatten();
        held.key == key || kept.is_some_and(|kept| kept.key == held.key)
    }

    /// Ends a reservation that a path holds which cannot be reached.
    ///
    /// A path that can be reached preempts it, which makes it the holder, and releases. The standard has
    /// no other way that leaves other initiators' registrations alone. It costs the registrations of our
    /// other paths, which are made anew; those that are away are multipathd's to make.
    fn release_for_lost(
        &mut self,
        order: &Order,
        kind: ScopeType,
        key: ReservationKey,
    ) -> Result<(), Outcome> {
        let list = BasicParameterList {
            reservation_key: key,
            service_action_reservation_key: key,
            ..BasicParameterList::default()
        };
        let preempt = Order::new(OutServiceAction::Preempt, kind, &list);
        let (holder, outcome) = self.by_one(&preempt);
        let holder = holder.ok_or(outcome)?;
        let released = self.insist(holder, order).outcome();
        let flags = self.flags();
        self.register_others(holder, key, &flags);
        match released.status {
            Status::GOOD => Ok(()),
            _ => Err(released),
        }
    }
}
