//! RELEASE: only the nexus that holds a reservation can end it, and the others may not know who that is.

use scsi_pr::{AdditionalSense, BasicParameterList, ReservationKey, ScopeType, SenseKey, Status};

use super::send::is_refusal;
use super::{Keeper, Order, Path, Spread, unreachable_unit};
use crate::command::executor::CommandResult;
use crate::command::sg::TransportOutcome;

/// What the paths that were asked have said.
#[derive(Default)]
struct Answers {
    /// GOOD: released, or nothing to release.
    good: Option<CommandResult>,
    /// This path is not registered with that key.
    refused: Option<CommandResult>,
    /// No answer.
    lost: Option<CommandResult>,
}

impl<P: Path, K: Keeper> Spread<'_, P, K> {
    /// RELEASE, by every path: to who is registered and holds nothing, it does nothing and is GOOD.
    pub(super) fn release(
        &mut self,
        order: &Order,
        kind: ScopeType,
        list: &BasicParameterList,
    ) -> CommandResult {
        let mut answers = Answers::default();
        for path in 0..self.paths.len() {
            // Until one has answered, a unit attention is for the guest.
            let delivery = match answers.good.or(answers.refused) {
                None => self.send(path, order),
                Some(_) => self.insist(path, order),
            };
            match delivery {
                TransportOutcome::Completed(outcome) => match outcome.status {
                    Status::GOOD => answers.good = Some(outcome),
                    _ if is_refusal(&outcome) => answers.refused = Some(outcome),
                    // Above all: the holder says that scope or type is another one.
                    _ => return outcome,
                },
                TransportOutcome::NotDelivered(outcome) | TransportOutcome::Unknown(outcome) => {
                    answers.lost = Some(outcome);
                }
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
        match self.held_by_absent(list.reservation_key) {
            None => {}
            Some(held) if held != kind => {
                return CommandResult::check_condition(
                    SenseKey::IllegalRequest,
                    AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION,
                );
            }
            Some(_) => {
                if let Err(outcome) = self.release_for_absent(order, kind, list.reservation_key) {
                    return outcome;
                }
            }
        }
        self.read_attentions(None);
        self.keeper.hold(false);
        self.look_for_other_holder(list.reservation_key);
        good
    }

    /// A path that was removed from the map leaves its reservation behind. It could be preempted, but there is
    /// no telling it from another host that has the same key.
    fn look_for_other_holder(&mut self, key: ReservationKey) {
        if !key.is_zero() && self.reservation().is_some_and(|held| held.key == key) {
            self.remarks.push(format!(
                "released, but there is a reservation with its key {key}: of a path that is not there any \
                 more, or of another host"
            ));
        }
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
}
