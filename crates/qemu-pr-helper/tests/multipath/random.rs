// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random commands: A with two paths gets the same results as A with one path, and these results
//! are true.

use helper_state::PathRegistration;
use proptest::collection::vec;
use proptest::prelude::*;
use qemu_pr_helper::multipath::pr_out::PrOutResult;
use scsi_pr::{OutServiceAction, ReservationKey, Status};

use crate::map::{A1, B, Map, PathState, TestCommand, execute_on_nexus, format_result, ids, unit};

pub(crate) fn command() -> impl Strategy<Value = TestCommand> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), any::<bool>());
    let named = prop_oneof![9 => Just(None), 1 => prop_oneof![Just(Some(B)), Just(Some(99))]];
    let length = prop_oneof![30 => Just(None), 1 => (0..40_u8).prop_map(Some)];
    (0..9_u8, 0..10_u8, 0..4_u64, 0..4_u64, flags, named, length).prop_map(
        |(action, kind, key, action_key, (aptpl, all_tg_pt, unregister), named, length)| {
            TestCommand {
                action: OutServiceAction::from_code(action).unwrap(),
                kind,
                key,
                action_key,
                aptpl,
                all_tg_pt,
                named,
                unregister,
                length,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Results, registrations and the reservation are the same with one path as with two.
    #[test]
    fn two_paths_behave_as_one(
        commands in vec((any::<bool>(), command()), 0..40),
        second in 1..3_u16,
    ) {
        let single = unit(&[(A1, 1), (B, 1)]);
        let [a, b] = ids(&single).try_into().unwrap();
        let mut map = Map::new(second);
        for (is_a, command) in &commands {
            let (expected, got) = match is_a {
                true => {
                    let done = map.execute(command);
                    // In this test, hosts can have the same key, and there are all types.
                    let unexpected = |warning: &&String| {
                        !warning.contains("other host") && !warning.contains("only the path")
                    };
                    prop_assert_eq!(done.warnings.iter().find(unexpected), None);
                    (execute_on_nexus(&single, a, command), done.result)
                }
                false => (execute_on_nexus(&single, b, command), map.execute_b(command)),
            };
            let host = if *is_a { "A" } else { "B" };
            let case = format!("{host} {command:?}");
            prop_assert_eq!(format_result(&expected), format_result(&got), "{}", case);
            let key = single.borrow().key(a).unwrap_or_default().get();
            prop_assert_eq!(map.keys(), [key, key], "{}", case);
            prop_assert_eq!(single.borrow().reservation().map(|held| held.kind()), map.reserved());
            let (single, multi) = (single.borrow(), map.unit.borrow());
            prop_assert_eq!(single.key(b), multi.key(map.b), "{}", case);
            prop_assert_eq!(single.unit_attentions(b), multi.unit_attentions(map.b), "{}", case);
            prop_assert_eq!(single.aptpl(), multi.aptpl(), "{}", case);
        }
    }
}

/// Checks that the result and the warnings of A's command are true.
fn check_result(
    map: &Map,
    before: &Before,
    command: &TestCommand,
    done: &PrOutResult,
) -> Result<(), TestCaseError> {
    use OutServiceAction as Action;
    let is_good = done.result.status == Status::GOOD;
    let is_registration = matches!(
        command.action,
        Action::Register | Action::RegisterAndIgnoreExistingKey
    );
    let up = |keys: Vec<u64>| -> Vec<u64> {
        let is_up = map.paths.iter().map(|path| path.state == PathState::Up);
        let keys = keys.into_iter().zip(is_up);
        keys.filter(|(_, is_up)| *is_up)
            .map(|(key, _)| key)
            .collect()
    };
    let (old_keys, new_keys) = (up(before.keys.clone()), up(map.keys()));
    if is_registration && is_good && command.action_key != 0 {
        prop_assert!(new_keys.iter().all(|key| *key == command.action_key));
        prop_assert_eq!(map.stored_key(), Some(command.action_key));
    }
    if is_registration && !is_good && done.warnings.is_empty() {
        prop_assert_eq!(&new_keys, &old_keys);
    }
    let quiet = is_good && done.warnings.is_empty();
    if quiet && command.action == Action::Register && command.action_key == 0 && command.key != 0 {
        prop_assert!(!map.keys().contains(&command.key), "{:?}", map.keys());
    }
    if quiet && command.action == Action::Release && before.keys.contains(&command.key) {
        prop_assert!(!map.is_holder(command.key));
    }
    check_registrations(map, before, done)?;
    if is_registration || matches!(command.action, Action::Reserve | Action::Release) {
        prop_assert_eq!(map.unit.borrow().key(map.b), before.b);
    }
    Ok(())
}

/// Checks that the result states the registrations of the paths, if the command has changed them.
fn check_registrations(
    map: &Map,
    before: &Before,
    done: &PrOutResult,
) -> Result<(), TestCaseError> {
    let is_registered = |keys: &[u64]| keys.iter().map(|key| *key != 0).collect::<Vec<_>>();
    let (old, new) = (is_registered(&before.keys), is_registered(&map.keys()));
    if done.result.status == Status::GOOD && old != new {
        prop_assert_eq!(done.registrations.len(), new.len());
    }
    for ((path, registration), is_registered) in map.paths.iter().zip(&done.registrations).zip(new)
    {
        match registration {
            PathRegistration::Registered => prop_assert!(is_registered),
            PathRegistration::NotRegistered => {
                prop_assert!(!is_registered || path.state != PathState::Up);
            }
            PathRegistration::Unknown => prop_assert!(path.state != PathState::Up),
        }
    }
    Ok(())
}

/// Registrations before a command.
struct Before {
    keys: Vec<u64>,
    b: Option<ReservationKey>,
}

/// Event on A's map.
#[derive(Clone, Debug)]
enum Event {
    A(TestCommand),
    B(TestCommand),
    /// The path with this index fails or returns; multipathd registers a path that returns.
    Toggle(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => command().prop_map(|mut command| {
            // Do not register another initiator with a key of A.
            let is_move = command.action == OutServiceAction::RegisterAndMove;
            command.named = is_move.then_some(99);
            Event::A(command)
        }),
        2 => command().prop_map(|mut command| {
            // Hosts have different keys.
            command.key += if command.key == 0 { 0 } else { 10 };
            let changes = [
                OutServiceAction::Register,
                OutServiceAction::RegisterAndIgnoreExistingKey,
            ];
            if changes.contains(&command.action) && command.action_key != 0 {
                command.action_key += 10;
            }
            command.named = None;
            Event::B(command)
        }),
        3 => (0..2_usize).prop_map(Event::Toggle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn results_are_true_while_paths_fail(events in vec(event(), 0..60)) {
        let mut map = Map::new(2);
        for event in &events {
            match event {
                Event::A(command) => {
                    let before = Before { keys: map.keys(), b: map.unit.borrow().key(map.b) };
                    let done = map.execute(command);
                    check_result(&map, &before, command, &done).map_err(|error| {
                        TestCaseError::fail(format!("{command:?}: {error}, {done:?}"))
                    })?;
                }
                Event::B(command) => {
                    map.execute_b(command);
                }
                Event::Toggle(path) => map.toggle(*path),
            }
        }
    }
}

/// Generates a command of B that fences A.
fn fence() -> impl Strategy<Value = TestCommand> {
    let preempt =
        (0..4_u64, prop_oneof![Just(0_u8), 1..9_u8]).prop_map(|(victim, kind)| TestCommand {
            kind,
            ..TestCommand::new(OutServiceAction::Preempt, 12, victim)
        });
    prop_oneof![3 => preempt, 1 => Just(TestCommand::new(OutServiceAction::Clear, 12, 0))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// If B fences A during a command of A, both paths of A are fenced, or none.
    #[test]
    fn fencing_affects_all_paths_or_none(
        commands in vec((command(), 1..12_usize, fence()), 0..20),
    ) {
        let mut map = Map::new(2);
        for (command, number, fence) in commands {
            map.execute_b(&TestCommand::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, 12));
            let command = TestCommand { named: None, ..command };
            let before = map.keys();
            let (done, fenced) = map.execute_interrupted(&command, number, fence.clone());
            let keys = map.keys();
            let context = format!("{command:?} {number} {fence:?} {fenced:?} {before:?} {done:?}");
            prop_assert_eq!(keys[0], keys[1], "{}", context);
            // A named its key, and B got GOOD, so no registration may have that key.
            let names_key = command.action != OutServiceAction::RegisterAndIgnoreExistingKey;
            let is_victim = fence.action_key == command.key && before == [command.key; 2];
            if fenced == Some(Status::GOOD) && names_key && command.key != 0 && is_victim {
                prop_assert_eq!(keys, [0, 0], "{}", context);
            }
        }
    }
}
