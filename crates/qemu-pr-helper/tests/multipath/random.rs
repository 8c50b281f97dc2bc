//! Whatever initiators do: A with one path is answered as A with two, and what A is told is so.

use proptest::collection::vec;
use proptest::prelude::*;
use qemu_pr_helper::multipath::pr_out::Done;
use scsi_pr::{OutServiceAction, ReservationKey, Status};

use crate::map::{A1, B, Map, Out, State, ids, show, single, unit};

fn command() -> impl Strategy<Value = Out> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), any::<bool>());
    let named = prop_oneof![9 => Just(None), 1 => prop_oneof![Just(Some(B)), Just(Some(99))]];
    let length = prop_oneof![30 => Just(None), 1 => (0..40_u8).prop_map(Some)];
    (0..9_u8, 0..10_u8, 0..4_u64, 0..4_u64, flags, named, length).prop_map(
        |(action, kind, key, action_key, (aptpl, all_tg_pt, unregister), named, length)| Out {
            action: OutServiceAction::from_code(action).unwrap(),
            kind,
            key,
            action_key,
            aptpl,
            all_tg_pt,
            named,
            unregister,
            length,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Whatever A and B do: all are answered alike, and what is registered and reserved is the same.
    #[test]
    fn two_paths_are_as_one(
        commands in vec((any::<bool>(), command()), 0..40),
        second in 1..3_u16,
    ) {
        let one = unit(&[(A1, 1), (B, 1)]);
        let [a, b] = ids(&one).try_into().unwrap();
        let mut map = Map::new(second);
        for (is_a, command) in &commands {
            let (expected, got) = match is_a {
                true => {
                    let done = map.execute(command);
                    // Here they do have the same keys.
                    let others = |remark: &&String| !remark.contains("other host");
                    prop_assert_eq!(done.remarks.iter().find(others), None);
                    (single(&one, a, command), done.outcome)
                }
                false => (single(&one, b, command), map.other(command)),
            };
            let who = if *is_a { "A" } else { "B" };
            prop_assert_eq!(show(&expected), show(&got), "{} {:?}", who, command);
            let key = one.borrow().key_of(a).unwrap_or_default().get();
            prop_assert_eq!(map.keys(), [key, key], "{} {:?}", who, command);
            prop_assert_eq!(one.borrow().reservation().map(|held| held.kind()), map.reserved());
            let (one, two) = (one.borrow(), map.unit.borrow());
            prop_assert_eq!(one.key_of(b), two.key_of(map.b), "{} {:?}", who, command);
            prop_assert_eq!(one.unit_attentions(b), two.unit_attentions(map.b), "{} {:?}", who, command);
            prop_assert_eq!(one.aptpl(), two.aptpl(), "{} {:?}", who, command);
        }
    }
}

/// What A is told with paths that come and go is so.
fn check_told(map: &Map, before: &Before, command: &Out, done: &Done) -> Result<(), TestCaseError> {
    use OutServiceAction as Action;
    let is_good = done.outcome.status == Status::GOOD;
    let is_registration = matches!(
        command.action,
        Action::Register | Action::RegisterAndIgnoreExistingKey
    );
    let up = |keys: Vec<u64>| -> Vec<u64> {
        let is_up = map.paths.iter().map(|path| path.state == State::Up);
        let keys = keys.into_iter().zip(is_up);
        keys.filter(|(_, is_up)| *is_up)
            .map(|(key, _)| key)
            .collect()
    };
    let (were, are) = (up(before.keys.clone()), up(map.keys()));
    if is_registration && is_good && command.action_key != 0 {
        prop_assert!(are.iter().all(|key| *key == command.action_key));
        prop_assert_eq!(map.kept(), Some(command.action_key));
    }
    if is_registration && !is_good && done.remarks.is_empty() {
        prop_assert_eq!(&are, &were);
    }
    let quiet = is_good && done.remarks.is_empty();
    if quiet && command.action == Action::Register && command.action_key == 0 && command.key != 0 {
        prop_assert!(!map.keys().contains(&command.key), "{:?}", map.keys());
    }
    if quiet && command.action == Action::Release && before.keys.contains(&command.key) {
        prop_assert!(!map.is_holder(command.key));
    }
    if is_registration || matches!(command.action, Action::Reserve | Action::Release) {
        prop_assert_eq!(map.unit.borrow().key_of(map.b), before.b);
    }
    Ok(())
}

/// What was registered before a command.
struct Before {
    keys: Vec<u64>,
    b: Option<ReservationKey>,
}

/// What happens to A's map.
#[derive(Clone, Debug)]
enum Event {
    A(Out),
    B(Out),
    /// One of the paths goes away or comes back, and multipathd does with it what it does.
    Toggle(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => command().prop_map(|mut command| {
            // Nobody else gets a key of A's.
            let is_move = command.action == OutServiceAction::RegisterAndMove;
            command.named = is_move.then_some(99);
            Event::A(command)
        }),
        2 => command().prop_map(|mut command| {
            // Hosts have different keys.
            command.key += if command.key == 0 { 0 } else { 10 };
            let changes = [OutServiceAction::Register, OutServiceAction::RegisterAndIgnoreExistingKey];
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
    fn what_is_told_is_so_while_paths_come_and_go(events in vec(event(), 0..60)) {
        let mut map = Map::new(2);
        for event in &events {
            match event {
                Event::A(command) => {
                    let before = Before { keys: map.keys(), b: map.unit.borrow().key_of(map.b) };
                    let done = map.execute(command);
                    check_told(&map, &before, command, &done)
                        .map_err(|error| TestCaseError::fail(format!("{command:?}: {error}, {done:?}")))?;
                }
                Event::B(command) => {
                    map.other(command);
                }
                Event::Toggle(path) => map.toggle(*path),
            }
        }
    }
}

/// What B does to fence A, who has one of these keys.
fn fence() -> impl Strategy<Value = Out> {
    let preempt = (0..4_u64, prop_oneof![Just(0_u8), 1..9_u8]).prop_map(|(victim, kind)| Out {
        kind,
        ..Out::new(OutServiceAction::Preempt, 12, victim)
    });
    prop_oneof![3 => preempt, 1 => Just(Out::new(OutServiceAction::Clear, 12, 0))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// B fences A while A's paths follow each other: all of them are fenced, or none.
    #[test]
    fn who_is_fenced_is_fenced_on_all_paths(
        commands in vec((command(), 1..12_usize, fence()), 0..20),
    ) {
        let mut map = Map::new(2);
        for (command, number, fence) in commands {
            map.other(&Out::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, 12));
            let command = Out { named: None, ..command };
            let before = map.keys();
            let (done, fenced) = map.execute_while(&command, number, fence.clone());
            let keys = map.keys();
            let what = format!("{command:?} {number} {fence:?} {fenced:?} {before:?} {done:?}");
            prop_assert_eq!(keys[0], keys[1], "{}", what);
            // A said which key it had, and B was told that nobody has it any more.
            let is_change = command.action == OutServiceAction::Register && command.key != 0;
            let is_victim = fence.action_key == command.key && before == [command.key; 2];
            if fenced == Some(Status::GOOD) && is_change && is_victim {
                prop_assert_eq!(keys, [0, 0], "{}", what);
            }
        }
    }
}
