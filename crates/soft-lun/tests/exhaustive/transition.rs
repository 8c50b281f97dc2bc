// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of every command in every state.

use scsi_pr::{AdditionalSense, ReservationKey, SenseKey, Status};
use soft_lun::{LogicalUnit, NexusId, Response, UnitAttention};

use super::commands::{Operation, TestCommand};
use super::state::StateView;

/// A command, and the state before and after it.
struct Transition<'a> {
    before: &'a StateView,
    after: StateView,
    command: &'a TestCommand,
}

/// Executes a command on `unit`, which equals `original`, and checks the result.
pub(crate) fn check(
    original: &LogicalUnit,
    before: &StateView,
    command: &TestCommand,
    unit: &mut LogicalUnit,
) {
    let pending = original.unit_attentions(command.sender).first().copied();
    let (cdb, list) = (&command.command.cdb, &command.command.parameter_list);
    let response = unit.execute(command.sender, cdb, list);
    let generation = original.generation();
    if let Some(attention) = pending {
        assert_eq!(unit.generation(), generation);
        return check_unit_attention(before, command, &response, attention, unit);
    }
    let result = (response.status, response.sense.map(|sense| sense.code));
    assert_eq!(
        result,
        expected_result(before, command),
        "{before:?} {command:?}"
    );
    if response.status != Status::GOOD {
        // SPC-4, 6.16: a command that fails changes nothing, including PRgeneration.
        assert!(unit == original, "{before:?} {command:?}");
        return;
    }
    let transition = Transition {
        before,
        after: StateView::of(unit),
        command,
    };
    let expected_generation = if transition.changes_generation() {
        generation.next()
    } else {
        generation
    };
    assert_eq!(
        unit.generation(),
        expected_generation,
        "{before:?} {command:?}"
    );
    assert!(
        transition.registrations_are_expected(),
        "{before:?} {command:?}\n{:?}",
        transition.after
    );
    assert!(
        transition.reservation_is_expected(),
        "{before:?} {command:?}\n{:?}",
        transition.after
    );
    transition.check_unit_attentions();
    transition.check_aptpl();
}

/// SAM-5: the unit reports the oldest unit attention once and does not execute the command.
fn check_unit_attention(
    before: &StateView,
    command: &TestCommand,
    response: &Response,
    attention: UnitAttention,
    unit: &LogicalUnit,
) {
    assert_eq!(response.status, Status::CHECK_CONDITION);
    let sense = response.sense.unwrap();
    assert_eq!(sense.key, SenseKey::UnitAttention);
    assert_eq!(sense.code, code(attention));
    let mut expected = before.clone();
    let queues = unit
        .nexuses()
        .map(|(id, _)| id)
        .zip(&mut expected.unit_attentions);
    for (_, queue) in queues.filter(|(id, _)| *id == command.sender) {
        queue.remove(0);
    }
    assert_eq!(StateView::of(unit), expected);
}

fn code(attention: UnitAttention) -> AdditionalSense {
    let ascq = match attention {
        UnitAttention::ReservationsPreempted => 3,
        UnitAttention::ReservationsReleased => 4,
        UnitAttention::RegistrationsPreempted => 5,
        UnitAttention::PowerOn => panic!("no power loss"),
    };
    AdditionalSense { asc: 0x2a, ascq }
}

/// Returns the expected status and additional sense code of a command.
fn expected_result(view: &StateView, command: &TestCommand) -> (Status, Option<AdditionalSense>) {
    let illegal = |asc, ascq| {
        let code = AdditionalSense { asc, ascq };
        (Status::CHECK_CONDITION, Some(code))
    };
    let good = (Status::GOOD, None);
    let conflict = (Status::RESERVATION_CONFLICT, None);
    let (held, is_holder) = (view.reservation, view.is_holder(command.sender));
    match &command.operation {
        _ if !is_key_accepted(view, command) => conflict,
        Operation::In | Operation::Clear(_) => good,
        // 5.12, registering, table: a registered nexus cannot name others.
        Operation::Register { others, .. } => {
            match !others.is_empty() && view.key(command.sender).is_some() {
                true => illegal(0x26, 0),
                false => good,
            }
        }
        // 5.12, reserving: a holder can repeat its own reservation only; other nexuses cannot
        // reserve.
        Operation::Reserve(_, kind) => {
            match held.is_none_or(|held| is_holder && held.kind() == *kind) {
                true => good,
                false => conflict,
            }
        }
        // 5.12, releasing: scope and type are checked for a holder only.
        Operation::Release(_, kind) => {
            match is_holder && held.is_some_and(|held| held.kind() != *kind) {
                true => illegal(0x26, 4),
                false => good,
            }
        }
        // 5.12, preempting, table; and removing registrations: the victim's key must be
        // registered.
        Operation::Preempt(_, victim, _) if takes_over(view, *victim) => good,
        Operation::Preempt(_, victim, _) if victim.is_zero() => illegal(0x26, 0),
        Operation::Preempt(_, victim, _) => {
            match view.registrations.iter().any(|one| one.key == *victim) {
                true => good,
                false => conflict,
            }
        }
        // 5.12, registering and moving: the sender is the single holder, and the key is not zero.
        Operation::Move { new, .. } => match held.map(|held| held.holder() == Some(command.sender))
        {
            Some(false) => conflict,
            _ if new.is_zero() => illegal(0x26, 0),
            Some(true) => good,
            None => illegal(0x24, 0),
        },
    }
}

/// Returns whether the key is acceptable; otherwise the command gets RESERVATION CONFLICT. The key
/// must be the key of the sender. With REGISTER, an unregistered sender sends the key zero (SPC-4,
/// 5.12, registering). PERSISTENT RESERVE IN and REGISTER AND IGNORE EXISTING KEY need no key.
fn is_key_accepted(view: &StateView, command: &TestCommand) -> bool {
    let own = view.key(command.sender);
    match &command.operation {
        Operation::In | Operation::Register { ignore: true, .. } => true,
        Operation::Register { key, .. } => own.unwrap_or(ReservationKey::ZERO) == *key,
        Operation::Reserve(key, _)
        | Operation::Release(key, _)
        | Operation::Clear(key)
        | Operation::Preempt(key, ..)
        | Operation::Move { key, .. } => own == Some(*key),
    }
}

/// SPC-4, 5.12, preempting: returns whether the key is that of the holder, or zero with an all
/// registrants type.
fn takes_over(view: &StateView, victim: ReservationKey) -> bool {
    view.reservation.is_some_and(|held| match held.holder() {
        Some(holder) => view.key(holder) == Some(victim),
        None => victim.is_zero(),
    })
}

impl Transition<'_> {
    fn sender(&self) -> NexusId {
        self.command.sender
    }

    /// SPC-4, 6.16.2: REGISTER, REGISTER AND IGNORE EXISTING KEY, CLEAR, PREEMPT and REGISTER AND
    /// MOVE change PRgeneration. RESERVE, RELEASE, and a registration without effect do not.
    fn changes_generation(&self) -> bool {
        match &self.command.operation {
            Operation::In | Operation::Reserve(..) | Operation::Release(..) => false,
            Operation::Register { new, .. } => {
                !new.is_zero() || self.before.key(self.sender()).is_some()
            }
            Operation::Clear(_) | Operation::Preempt(..) | Operation::Move { .. } => true,
        }
    }

    /// Checks the registered nexuses and their keys, in any order.
    fn registrations_are_expected(&self) -> bool {
        let (before, sender) = (self.before, self.sender());
        let old_key = |nexus| before.key(nexus);
        self.nexuses().all(|nexus| {
            let key = old_key(nexus);
            let expected = match &self.command.operation {
                Operation::In | Operation::Reserve(..) | Operation::Release(..) => key,
                Operation::Register { new, .. } if nexus == sender => Some(*new),
                Operation::Register { new, others, .. } => {
                    key.or_else(|| others.contains(&nexus).then_some(*new))
                }
                Operation::Clear(_) => None,
                Operation::Preempt(_, victim, _) => key.filter(|key| {
                    // The sender keeps its registration if it takes over the reservation.
                    let removed = victim.is_zero() || key == victim;
                    !removed || nexus == sender && takes_over(self.before, *victim)
                }),
                Operation::Move { new, to, .. } if nexus == *to => Some(*new),
                Operation::Move { unregister, .. } => {
                    key.filter(|_| !(*unregister && nexus == sender))
                }
            };
            self.after.key(nexus) == expected.filter(|key| !key.is_zero())
        })
    }

    /// Checks the reservation and its holder.
    fn reservation_is_expected(&self) -> bool {
        let (before, after, sender) = (self.before, &self.after, self.sender());
        let (old, new) = (before.reservation, after.reservation);
        let reserved =
            |kind| new.is_some_and(|held| held.kind() == kind) && after.is_holder(sender);
        match &self.command.operation {
            Operation::In => new == old,
            // Reserving: there is one reservation, which its holder can repeat.
            Operation::Reserve(_, kind) => match old {
                None => reserved(*kind),
                Some(held) => new == old && held.kind() == *kind && before.is_holder(sender),
            },
            // Releasing: a reservation that the sender does not hold does not change.
            Operation::Release(_, kind) => match old {
                Some(held) if before.is_holder(sender) => new.is_none() && held.kind() == *kind,
                _ => new == old,
            },
            Operation::Clear(_) => new.is_none(),
            Operation::Preempt(_, victim, kind) if takes_over(self.before, *victim) => {
                reserved(*kind)
            }
            // The reservation is released with its last holder only.
            Operation::Register { .. } | Operation::Preempt(..) => {
                match self.holders_lost_registrations() {
                    true => new.is_none(),
                    false => new == old,
                }
            }
            Operation::Move { to, .. } => {
                let kind = new.map(|held| held.kind());
                let moved = new.and_then(|held| held.holder()) == Some(*to);
                moved && kind == old.map(|held| held.kind()) && before.is_holder(sender)
            }
        }
    }

    /// Returns whether all holders of the reservation have lost their registrations.
    fn holders_lost_registrations(&self) -> bool {
        let mut holders = self.nexuses().filter(|nexus| self.before.is_holder(*nexus));
        holders.all(|nexus| self.after.key(nexus).is_none())
    }

    /// Checks that exactly the nexuses that the standard names get a unit attention, never the
    /// sender.
    fn check_unit_attentions(&self) {
        let queues = self
            .before
            .unit_attentions
            .iter()
            .zip(&self.after.unit_attentions);
        for (nexus, (before, after)) in self.nexuses().zip(queues) {
            let mut expected = before.clone();
            let expected_unit_attention = self.expected_unit_attention(nexus);
            expected.extend(
                expected_unit_attention
                    .into_iter()
                    .filter(|attention| !before.contains(attention)),
            );
            assert_eq!(
                *after, expected,
                "{nexus:?} {:?} {:?}",
                self.before, self.command
            );
        }
    }

    /// Returns the unit attention that the standard requires for a nexus.
    fn expected_unit_attention(&self, nexus: NexusId) -> Option<UnitAttention> {
        if nexus == self.sender() || self.before.key(nexus).is_none() {
            return None;
        }
        let stays = self.after.key(nexus).is_some();
        let old = self.before.reservation.map(|held| held.kind());
        let new = self.after.reservation.map(|held| held.kind());
        match &self.command.operation {
            // 5.12, clearing.
            Operation::Clear(_) => Some(UnitAttention::ReservationsPreempted),
            // 5.12, preempting: a nexus that loses its registration; others if the type changes.
            Operation::Preempt(..) if !stays => Some(UnitAttention::RegistrationsPreempted),
            Operation::Preempt(_, victim, _) => (takes_over(self.before, *victim) && old != new)
                .then_some(UnitAttention::ReservationsReleased),
            // 5.12, releasing: types 5 to 8; unregistering: types 5 and 6.
            Operation::Release(..) => (new.is_none() && old.is_some_and(|kind| kind.code() >= 5))
                .then_some(UnitAttention::ReservationsReleased),
            Operation::Register { .. } => (new.is_none()
                && old.is_some_and(|kind| matches!(kind.code(), 5 | 6)))
            .then_some(UnitAttention::ReservationsReleased),
            Operation::In | Operation::Reserve(..) | Operation::Move { .. } => None,
        }
    }

    /// SPC-4, 6.16.3, `APTPL`: the last value applies.
    fn check_aptpl(&self) {
        let expected = match &self.command.operation {
            Operation::Register { aptpl, .. } if self.changes_generation() => *aptpl,
            Operation::Move { .. } => false, // The test commands do not set the bit.
            _ => self.before.aptpl,
        };
        assert_eq!(self.after.aptpl, expected, "{:?}", self.command);
    }

    /// Returns all nexuses, in the order of the unit attention queues.
    fn nexuses(&self) -> impl Iterator<Item = NexusId> {
        self.command.nexuses.iter().copied()
    }
}
