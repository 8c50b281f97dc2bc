//! What must be true of every command in every state.

use scsi_pr::{AdditionalSense, ReservationKey, SenseKey, Status};
use soft_lun::{LogicalUnit, NexusId, Response, UnitAttention};

use super::alphabet::{Letter, Meaning};
use super::state::View;

/// A command, and the state before and after it.
struct Step<'a> {
    before: &'a View,
    after: View,
    letter: &'a Letter,
}

/// Executes a command on `unit`, which is `original`, and checks what became of it.
pub(crate) fn check(
    original: &LogicalUnit,
    before: &View,
    letter: &Letter,
    unit: &mut LogicalUnit,
) {
    let waiting = original.unit_attentions(letter.sender).first().copied();
    let answer = unit.execute(letter.sender, &letter.cdb, &letter.parameters);
    if let Some(attention) = waiting {
        return delivered(before, letter, &answer, attention, unit);
    }
    let generation = original.generation();
    let ended = (answer.status, answer.sense.map(|sense| sense.code));
    assert_eq!(ended, ending(before, letter), "{before:?} {letter:?}");
    if answer.status != Status::GOOD {
        // SPC-4, 6.16: a command that fails changes nothing, PRgeneration included.
        assert!(unit == original, "{before:?} {letter:?}");
        return;
    }
    let step = Step {
        before,
        after: View::of(unit),
        letter,
    };
    let counted = if step.is_counted() {
        generation.next()
    } else {
        generation
    };
    assert_eq!(unit.generation(), counted, "{before:?} {letter:?}");
    assert!(
        step.registrations_follow(),
        "{before:?} {letter:?}\n{:?}",
        step.after
    );
    assert!(
        step.reservation_follows(),
        "{before:?} {letter:?}\n{:?}",
        step.after
    );
    step.attentions_reach_those_they_must();
    step.persistence_follows();
}

/// SAM-5: the oldest unit attention is reported instead, once, and the command not done.
fn delivered(
    before: &View,
    letter: &Letter,
    answer: &Response,
    attention: UnitAttention,
    unit: &LogicalUnit,
) {
    assert_eq!(answer.status, Status::CHECK_CONDITION);
    let sense = answer.sense.unwrap();
    assert_eq!(sense.key, SenseKey::UnitAttention);
    assert_eq!(sense.code, code(attention));
    let mut expected = before.clone();
    let queues = unit
        .nexuses()
        .map(|(id, _)| id)
        .zip(&mut expected.attentions);
    for (_, queue) in queues.filter(|(id, _)| *id == letter.sender) {
        queue.remove(0);
    }
    assert_eq!(View::of(unit), expected);
}

fn code(attention: UnitAttention) -> AdditionalSense {
    let ascq = match attention {
        UnitAttention::ReservationsPreempted => 3,
        UnitAttention::ReservationsReleased => 4,
        UnitAttention::RegistrationsPreempted => 5,
        UnitAttention::PowerOn => panic!("nobody lost power"),
    };
    AdditionalSense { asc: 0x2a, ascq }
}

/// How a command must end.
fn ending(view: &View, letter: &Letter) -> (Status, Option<AdditionalSense>) {
    let illegal = |asc, ascq| {
        let code = AdditionalSense { asc, ascq };
        (Status::CHECK_CONDITION, Some(code))
    };
    let good = (Status::GOOD, None);
    let conflict = (Status::RESERVATION_CONFLICT, None);
    let (held, holds) = (view.reservation, view.holds(letter.sender));
    match &letter.meaning {
        _ if !may(view, letter) => conflict,
        Meaning::In | Meaning::Clear(_) => good,
        // 5.12, registering, table: a registered nexus names no others.
        Meaning::Register { others, .. } => {
            match !others.is_empty() && view.key_of(letter.sender).is_some() {
                true => illegal(0x26, 0),
                false => good,
            }
        }
        // 5.12, reserving: a holder gets what it has, and nobody gets anything else.
        Meaning::Reserve(_, kind) => match held.is_none_or(|held| holds && held.kind() == *kind) {
            true => good,
            false => conflict,
        },
        // 5.12, releasing: only a holder can be wrong about scope and type.
        Meaning::Release(_, kind) => match holds && held.is_some_and(|held| held.kind() != *kind) {
            true => illegal(0x26, 4),
            false => good,
        },
        // 5.12, preempting, table; and removing registrations: the key must be somebody's.
        Meaning::Preempt(_, victim, _) if takes_over(view, *victim) => good,
        Meaning::Preempt(_, victim, _) if victim.is_zero() => illegal(0x26, 0),
        Meaning::Preempt(_, victim, _) => {
            match view.registrations.iter().any(|one| one.key == *victim) {
                true => good,
                false => conflict,
            }
        }
        // 5.12, registering and moving: by the one holder, and with a key.
        Meaning::Move { new, .. } => match held.map(|held| held.holder() == Some(letter.sender)) {
            Some(false) => conflict,
            _ if new.is_zero() => illegal(0x26, 0),
            Some(true) => good,
            None => illegal(0x24, 0),
        },
    }
}

/// Whether the sender may do this at all: it gives the key that it is registered with, or with
/// REGISTER the key zero if it is not (SPC-4, 5.12, registering), or asks, or ignores its key. If not,
/// it gets RESERVATION CONFLICT.
fn may(view: &View, letter: &Letter) -> bool {
    let own = view.key_of(letter.sender);
    match &letter.meaning {
        Meaning::In | Meaning::Register { ignore: true, .. } => true,
        Meaning::Register { key, .. } => own.unwrap_or(ReservationKey::ZERO) == *key,
        Meaning::Reserve(key, _)
        | Meaning::Release(key, _)
        | Meaning::Clear(key)
        | Meaning::Preempt(key, ..)
        | Meaning::Move { key, .. } => own == Some(*key),
    }
}

/// SPC-4, 5.12, preempting: whether the key is that of the holder, or zero where all registrants hold.
fn takes_over(view: &View, victim: ReservationKey) -> bool {
    view.reservation.is_some_and(|held| match held.holder() {
        Some(holder) => view.key_of(holder) == Some(victim),
        None => victim.is_zero(),
    })
}

impl Step<'_> {
    fn sender(&self) -> NexusId {
        self.letter.sender
    }

    /// SPC-4, 6.16.2: REGISTER, REGISTER AND IGNORE EXISTING KEY, CLEAR, PREEMPT and REGISTER AND MOVE
    /// count, RESERVE and RELEASE do not; nor does a registration of nothing.
    fn is_counted(&self) -> bool {
        match &self.letter.meaning {
            Meaning::In | Meaning::Reserve(..) | Meaning::Release(..) => false,
            Meaning::Register { new, .. } => {
                !new.is_zero() || self.before.key_of(self.sender()).is_some()
            }
            Meaning::Clear(_) | Meaning::Preempt(..) | Meaning::Move { .. } => true,
        }
    }

    /// Who is registered afterwards, and with which key, in any order.
    fn registrations_follow(&self) -> bool {
        let (before, sender) = (self.before, self.sender());
        let key_of = |nexus| before.key_of(nexus);
        self.nexuses().all(|nexus| {
            let key = key_of(nexus);
            let expected = match &self.letter.meaning {
                Meaning::In | Meaning::Reserve(..) | Meaning::Release(..) => key,
                Meaning::Register { new, .. } if nexus == sender => Some(*new),
                Meaning::Register { new, others, .. } => {
                    key.or_else(|| others.contains(&nexus).then_some(*new))
                }
                Meaning::Clear(_) => None,
                Meaning::Preempt(_, victim, _) => key.filter(|key| {
                    // The sender stays where it takes over a reservation, and goes otherwise.
                    let hit = victim.is_zero() || key == victim;
                    !hit || nexus == sender && takes_over(self.before, *victim)
                }),
                Meaning::Move { new, to, .. } if nexus == *to => Some(*new),
                Meaning::Move { unregister, .. } => {
                    key.filter(|_| !(*unregister && nexus == sender))
                }
            };
            self.after.key_of(nexus) == expected.filter(|key| !key.is_zero())
        })
    }

    /// Which reservation is there afterwards, and who holds it.
    fn reservation_follows(&self) -> bool {
        let (before, after, sender) = (self.before, &self.after, self.sender());
        let (was, is) = (before.reservation, after.reservation);
        let made = |kind| is.is_some_and(|held| held.kind() == kind) && after.holds(sender);
        match &self.letter.meaning {
            Meaning::In => is == was,
            // Reserving: one at a time; again, the same by a holder.
            Meaning::Reserve(_, kind) => match was {
                None => made(*kind),
                Some(held) => is == was && held.kind() == *kind && before.holds(sender),
            },
            // Releasing: what the sender does not hold stays.
            Meaning::Release(_, kind) => match was {
                Some(held) if before.holds(sender) => is.is_none() && held.kind() == *kind,
                _ => is == was,
            },
            Meaning::Clear(_) => is.is_none(),
            Meaning::Preempt(_, victim, kind) if takes_over(self.before, *victim) => made(*kind),
            // It goes with its last holder alone.
            Meaning::Register { .. } | Meaning::Preempt(..) => match self.lost_its_holders() {
                true => is.is_none(),
                false => is == was,
            },
            Meaning::Move { to, .. } => {
                let kind = is.map(|held| held.kind());
                let moved = is.and_then(|held| held.holder()) == Some(*to);
                moved && kind == was.map(|held| held.kind()) && before.holds(sender)
            }
        }
    }

    /// Whether none of those who held the reservation is registered any more.
    fn lost_its_holders(&self) -> bool {
        let mut holders = self.nexuses().filter(|nexus| self.before.holds(*nexus));
        holders.all(|nexus| self.after.key_of(nexus).is_none())
    }

    /// A unit attention is established for exactly those whom the standard names, never the sender.
    fn attentions_reach_those_they_must(&self) {
        let queues = self.before.attentions.iter().zip(&self.after.attentions);
        for (nexus, (before, after)) in self.nexuses().zip(queues) {
            let mut expected = before.clone();
            let established = self.established(nexus);
            expected.extend(
                established
                    .into_iter()
                    .filter(|attention| !before.contains(attention)),
            );
            assert_eq!(
                *after, expected,
                "{nexus:?} {:?} {:?}",
                self.before, self.letter
            );
        }
    }

    /// What the standard has for a nexus, by what it lost.
    fn established(&self, nexus: NexusId) -> Option<UnitAttention> {
        if nexus == self.sender() || self.before.key_of(nexus).is_none() {
            return None;
        }
        let stays = self.after.key_of(nexus).is_some();
        let was = self.before.reservation.map(|held| held.kind());
        let is = self.after.reservation.map(|held| held.kind());
        match &self.letter.meaning {
            // 5.12, clearing.
            Meaning::Clear(_) => Some(UnitAttention::ReservationsPreempted),
            // 5.12, preempting: who loses its registration; and, if the type changes, the others.
            Meaning::Preempt(..) if !stays => Some(UnitAttention::RegistrationsPreempted),
            Meaning::Preempt(_, victim, _) => (takes_over(self.before, *victim) && was != is)
                .then_some(UnitAttention::ReservationsReleased),
            // 5.12, releasing: types 5 to 8. Unregistering: types 5 and 6.
            Meaning::Release(..) => (is.is_none() && was.is_some_and(|kind| kind.code() >= 5))
                .then_some(UnitAttention::ReservationsReleased),
            Meaning::Register { .. } => (is.is_none()
                && was.is_some_and(|kind| matches!(kind.code(), 5 | 6)))
            .then_some(UnitAttention::ReservationsReleased),
            Meaning::In | Meaning::Reserve(..) | Meaning::Move { .. } => None,
        }
    }

    /// SPC-4, 6.16.3, `APTPL`: the last valid value governs.
    fn persistence_follows(&self) {
        let expected = match &self.letter.meaning {
            Meaning::Register { aptpl, .. } if self.is_counted() => *aptpl,
            Meaning::Move { .. } => false, // Its letters do not set the bit.
            _ => self.before.aptpl,
        };
        assert_eq!(self.after.aptpl, expected, "{:?}", self.letter);
    }

    /// All nexuses, in the order of the queues.
    fn nexuses(&self) -> impl Iterator<Item = NexusId> {
        self.letter.nexuses.iter().copied()
    }
}
