// SPDX-License-Identifier: MIT OR Apache-2.0

//! Host A with several paths leaves the state that host A with a single nexus would leave.
//!
//! The rule: for any set of failed paths and any key on each path, the state during the failure and
//! after recovery is the state that a single nexus would have left, and no write of this host
//! through a working path fails with RESERVATION CONFLICT in between.
//!
//! Two logical units get the same random commands of A and B. On the first unit, A has a map with
//! one, two or four paths, which fail, return, are added, and get keys that A did not register. On
//! the second unit, A has one nexus, which never fails. After each event, the state of the first
//! unit must be that of the second:
//!
//! | state | compared |
//! |---|---|
//! | result of each command | equal, after pending unit attentions have been reported |
//! | reservation | same type, held by the same host |
//! | key of a working path | the key of A's single nexus |
//! | key of a failed path | the same, or none: multipathd registers the path when it returns |
//! | key of B | equal |
//! | `APTPL` | equal after a command of A that succeeds, if it was equal before |
//!
//! A writes through each working path after each command that the helper sends to a path. These
//! writes must succeed if A's single nexus could write before the guest's command and can write
//! after it. A holder of an exclusive type (1 or 3) is exempt: one path holds the reservation, and
//! only that path can write.
//!
//! A path can also fail during a command of A, before or after it executes one of the helper's
//! commands. The guest repeats a command that is aborted, so only commands that can be repeated are
//! executed then.
//!
//! A key that A did not register is the key of an earlier guest, or of an operator. The test
//! assigns it to a working path that holds nothing, while another working path has A's key. It
//! remains until A registers or unregisters. If it is on a failed path, or if B removes A's
//! registration, no command of A can find it, so the test removes it with A's registration.

use std::env;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use scsi_pr::{OutServiceAction, Status};
use soft_lun::{LogicalUnit, NexusId};

use crate::key_store::Version;
use crate::map::{
    A1, A2, B, Map, PathState, Shared, TestCommand, TestPath, execute_on_nexus, format_result, ids,
    unit, without_attentions,
};
use crate::random::command;

/// Nexuses of the paths: two initiator ports and two target ports.
const PATHS: [(u64, u16); 4] = [(A1, 1), (A2, 2), (A1, 2), (A2, 1)];

/// Key that A does not register.
const FOREIGN_KEY: u64 = 0xf0;

/// Codes of the types that make all registrants holders.
const ALL_REGISTRANTS: [u8; 2] = [7, 8];

/// Difference between the keys of A and B.
const B_KEYS: u64 = 10;

/// Numbers of paths.
const PATH_COUNTS: [usize; 3] = [1, 2, 4];

/// Environment variable with the number of commands for each number of paths.
const COMMANDS_VARIABLE: &str = "PR_PATH_COMMANDS";

/// Number of commands by default.
const DEFAULT_COMMANDS: u32 = 7_000;

/// Number of commands in a sequence: a little less than the average.
const COMMANDS_PER_CASE: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    A,
    B,
}

/// Key or type of a command.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// The sender's key, or the type of the reservation.
    Own,
    /// The key of the other host.
    Other,
    /// The value in the command.
    Random,
}

/// Event on the two units.
#[derive(Clone, Debug)]
enum Event {
    Command {
        host: Host,
        command: TestCommand,
        key: Choice,
        action_key: Choice,
        kind: Choice,
        /// Path of A that fails during the command, after this number of commands to it.
        failure: Option<(usize, usize)>,
    },
    /// The path fails or returns.
    Toggle(usize),
    /// A path is added to the map.
    Add,
    /// The path gets [`FOREIGN_KEY`].
    Foreign(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let host = prop_oneof![3 => Just(Host::A), 1 => Just(Host::B)];
    let choice = || {
        prop_oneof![
            4 => Just(Choice::Own),
            1 => Just(Choice::Other),
            2 => Just(Choice::Random),
        ]
    };
    let action_key = prop_oneof![
        1 => Just(Choice::Own),
        1 => Just(Choice::Other),
        3 => Just(Choice::Random),
    ];
    let kind = prop_oneof![1 => Just(None), 2 => (5..9_u8).prop_map(Some)];
    let command = (command(), kind).prop_map(|(command, kind)| TestCommand {
        kind: kind.unwrap_or(command.kind),
        ..command
    });
    let failure = prop_oneof![
        4 => Just(None),
        1 => (0..PATHS.len(), 0..6_usize).prop_map(Some),
    ];
    prop_oneof![
        14 => (host, command, choice(), action_key, choice(), failure).prop_map(
            |(host, command, key, action_key, kind, failure)| Event::Command {
                host,
                command,
                key,
                action_key,
                kind,
                failure,
            },
        ),
        4 => (0..PATHS.len()).prop_map(Event::Toggle),
        1 => Just(Event::Add),
        1 => (0..PATHS.len()).prop_map(Event::Foreign),
    ]
}

/// The two units.
struct Units {
    map: Map,
    /// Paths that are not in the map yet.
    absent: Vec<TestPath>,
    /// Paths that got [`FOREIGN_KEY`] and that A has not registered since then.
    foreign: Vec<NexusId>,
    single: Shared,
    a: NexusId,
    b: NexusId,
    /// Events so far, for a failure message.
    history: Vec<String>,
}

impl Units {
    /// Creates a map with `paths` paths, of which `absent` are added later.
    fn new(paths: usize, absent: usize, version: Version) -> Self {
        let mut map = Map::with_paths(&PATHS[..paths], version);
        let absent = map.paths.split_off(paths - absent);
        let single = unit(&[(A1, 1), (B, 1)]);
        let [a, b] = ids(&single).try_into().unwrap();
        Self {
            map,
            absent,
            foreign: Vec::new(),
            single,
            a,
            b,
            history: Vec::new(),
        }
    }

    /// Returns the key of A's single nexus; zero if it is not registered.
    fn key(&self) -> u64 {
        self.single.borrow().key(self.a).unwrap_or_default().get()
    }

    fn key_of_b(&self) -> u64 {
        self.single.borrow().key(self.b).unwrap_or_default().get()
    }

    fn is_up(&self, path: usize) -> bool {
        let path = self.map.paths.get(path);
        path.is_some_and(|path| path.state == PathState::Up)
    }

    /// Returns whether a working path other than `path` has A's key.
    fn has_key_without(&self, path: usize) -> bool {
        let keys = self.map.keys();
        (0..keys.len()).any(|other| other != path && self.is_up(other) && keys[other] == self.key())
    }

    fn run(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Command {
                host,
                command,
                key,
                action_key,
                kind,
                failure,
            } => {
                let command = self.resolve(*host, command, *key, *action_key, *kind);
                self.history.push(describe(*host, &command));
                match host {
                    Host::A => self.execute_a_with_failure(&command, *failure)?,
                    Host::B => self.execute_b(&command)?,
                }
            }
            other => {
                self.history.push(format!("{other:?}"));
                self.change_paths(other);
            }
        }
        self.check_state()
    }

    /// Returns a command with the keys and the type that were chosen.
    fn resolve(
        &self,
        host: Host,
        command: &TestCommand,
        key: Choice,
        action_key: Choice,
        kind: Choice,
    ) -> TestCommand {
        use OutServiceAction as Action;
        let (own, other, offset) = match host {
            Host::A => (self.key(), self.key_of_b(), 0),
            Host::B => (self.key_of_b(), self.key(), B_KEYS),
        };
        let with_offset = |key| if key == 0 { 0 } else { key + offset };
        let is_registration = matches!(
            command.action,
            Action::Register | Action::RegisterAndIgnoreExistingKey
        );
        let mut command = command.clone();
        command.key = match key {
            Choice::Own => own,
            Choice::Other | Choice::Random => with_offset(command.key),
        };
        command.action_key = match action_key {
            Choice::Other if is_registration => 0,
            Choice::Random if is_registration => with_offset(command.action_key),
            Choice::Own => own,
            Choice::Other => other,
            Choice::Random => command.action_key,
        };
        // Do not register B with a key of A.
        if command.action == Action::RegisterAndMove {
            let is_to_b = host == Host::A && matches!(action_key, Choice::Other);
            command.named = Some(if is_to_b { B } else { 99 });
            command.action_key = B_KEYS + 1;
        } else {
            command.named = None;
        }
        // This would register paths that are not in the map yet.
        command.all_tg_pt &= self.absent.is_empty();
        if let (Choice::Own, Some(held)) = (kind, self.single.borrow().reservation()) {
            command.kind = held.kind().code();
        }
        command
    }

    /// Executes a command of A while a path fails, unless it is the last one.
    fn execute_a_with_failure(
        &mut self,
        command: &TestCommand,
        failure: Option<(usize, usize)>,
    ) -> Result<(), String> {
        let failure = failure.filter(|(path, _)| {
            self.is_up(*path) && self.has_key_without(*path) && self.is_repeatable(command)
        });
        let Some((path, after)) = failure else {
            return self.execute_a(command);
        };
        let nexus = self.map.paths[path].nexus;
        self.history
            .push(format!("  while {nexus:?} fails after {after} commands"));
        self.map.paths[path].state = PathState::FailsAfter(after);
        let done = self.execute_a(command);
        let path = &mut self.map.paths[path];
        if path.state != PathState::Down {
            path.state = PathState::Up;
        }
        done
    }

    /// Returns whether a guest can repeat a command that failed with ABORTED COMMAND.
    fn is_repeatable(&self, command: &TestCommand) -> bool {
        use OutServiceAction as Action;
        let held = self.single.borrow().reservation();
        let is_holder = held.is_some_and(|held| held.holder() == Some(self.a));
        match command.action {
            Action::Register
            | Action::RegisterAndIgnoreExistingKey
            | Action::Reserve
            | Action::Release => true,
            // If all registrants are holders, the second one removes the registration.
            Action::Preempt | Action::PreemptAndAbort => {
                is_holder
                    && command.key == command.action_key
                    && !ALL_REGISTRANTS.contains(&command.kind)
            }
            _ => false,
        }
    }

    fn execute_a(&mut self, command: &TestCommand) -> Result<(), String> {
        if !(0..self.map.paths.len()).any(|path| self.is_up(path)) {
            let result = self.map.execute(command).result;
            let is_failed = result.status == Status::CHECK_CONDITION;
            return is_failed
                .then_some(())
                .ok_or_else(|| format!("completed without a path: {}", format_result(&result)));
        }
        let was_aptpl_equal = self.is_aptpl_equal();
        let could_write = self.must_write();
        let (single, a) = (Rc::clone(&self.single), self.a);
        let expected = without_attentions(|| execute_on_nexus(&single, a, command));
        self.start_writer(could_write && self.must_write() && !self.is_window_open(command));
        let mut warnings = Vec::new();
        let result = without_attentions(|| {
            let done = self.map.execute(command);
            warnings = done.warnings;
            done.result
        });
        let writes = std::mem::take(&mut self.map.writer.borrow_mut().conflicts);
        if expected.status == Status::GOOD {
            self.forget_foreign_keys(command);
        }
        // A path that is not the holder rejects a malformed command for that reason.
        let is_same = match command.length {
            None => format_result(&expected) == format_result(&result),
            Some(_) => (expected.status == Status::GOOD) == (result.status == Status::GOOD),
        };
        match () {
            () if !is_same => Err(format!(
                "result is {}, expected {}, {warnings:?}",
                format_result(&result),
                format_result(&expected)
            )),
            () if !writes.is_empty() => Err(format!("RESERVATION CONFLICT: {}", writes[0])),
            () if was_aptpl_equal && result.status == Status::GOOD && !self.is_aptpl_equal() => {
                Err("APTPL differs".to_owned())
            }
            () => Ok(()),
        }
    }

    fn execute_b(&mut self, command: &TestCommand) -> Result<(), String> {
        let (single, b) = (Rc::clone(&self.single), self.b);
        let expected = without_attentions(|| execute_on_nexus(&single, b, command));
        let result = without_attentions(|| self.map.execute_b(command));
        if self.key() == 0 {
            self.remove_foreign_keys(|_| true);
        }
        match format_result(&expected) == format_result(&result) {
            true => Ok(()),
            false => Err(format!(
                "result is {}, expected {}",
                format_result(&result),
                format_result(&expected)
            )),
        }
    }

    /// Returns whether the command has a window in which a working path is not registered. PREEMPT
    /// with the key zero removes the registrations of all other nexuses, whatever their keys. A
    /// foreign key keeps a reservation of all registrants until it is removed as the last one.
    fn is_window_open(&self, command: &TestCommand) -> bool {
        use OutServiceAction as Action;
        let is_preempt = matches!(command.action, Action::Preempt | Action::PreemptAndAbort);
        let held = self.map.unit.borrow().reservation();
        let is_shared = held.is_some_and(|held| held.kind().is_all_registrants());
        is_preempt && command.action_key == 0 || is_shared && !self.foreign.is_empty()
    }

    fn start_writer(&self, must_succeed: bool) {
        let mut writer = self.map.writer.borrow_mut();
        writer.must_succeed = must_succeed;
        writer.sent = 0;
    }

    /// Returns whether A's working paths must be able to write.
    fn must_write(&self) -> bool {
        let single = self.single.borrow();
        let is_exclusive = single
            .reservation()
            .is_some_and(|held| held.holder() == Some(self.a) && !held.kind().allows_registrants());
        !is_exclusive && single.can_write(self.a)
    }

    fn is_aptpl_equal(&self) -> bool {
        self.single.borrow().aptpl() == self.map.unit.borrow().aptpl()
    }

    /// A's successful registration replaces foreign keys on working paths. If A is not registered
    /// anymore, they cannot remain on failed paths either.
    fn forget_foreign_keys(&mut self, command: &TestCommand) {
        use OutServiceAction as Action;
        let is_registration = matches!(
            command.action,
            Action::Register | Action::RegisterAndIgnoreExistingKey
        );
        let paths = self.map.paths.iter();
        let up: Vec<_> = paths
            .filter(|path| path.state == PathState::Up)
            .map(|path| path.nexus)
            .collect();
        if self.key() == 0 {
            self.remove_foreign_keys(|nexus| !up.contains(nexus));
        }
        if self.key() == 0 || is_registration {
            self.foreign.retain(|nexus| !up.contains(nexus));
        }
    }

    /// Removes the registrations with [`FOREIGN_KEY`] of the selected paths.
    fn remove_foreign_keys(&mut self, is_selected: impl Fn(&NexusId) -> bool) {
        for nexus in self.foreign.extract_if(.., |nexus| is_selected(nexus)) {
            if self.map.unit.borrow().key(nexus) == Some(FOREIGN_KEY.into()) {
                register_directly(&self.map, nexus, 0);
            }
        }
    }

    fn change_paths(&mut self, event: &Event) {
        match *event {
            Event::Toggle(path) if path < self.map.paths.len() => {
                // A path with a foreign key does not remain alone.
                let is_last =
                    self.is_up(path) && !self.foreign.is_empty() && !self.has_key_without(path);
                if !is_last {
                    self.map.toggle(path);
                }
            }
            Event::Add => {
                if let Some(path) = self.absent.pop() {
                    self.map.key_store.path_added(&self.map.unit, path.nexus);
                    self.map.paths.push(path);
                }
            }
            Event::Foreign(path) if self.is_up(path) => {
                let nexus = self.map.paths[path].nexus;
                let is_holder = self.map.unit.borrow().is_holder(nexus);
                let is_registered = self.key() != 0 && self.map.keys()[path] == self.key();
                if is_registered && !is_holder && self.has_key_without(path) {
                    register_directly(&self.map, nexus, FOREIGN_KEY);
                    self.foreign.push(nexus);
                }
            }
            _ => {}
        }
    }

    /// Checks that the state of the map's unit is that of the unit with a single nexus.
    fn check_state(&self) -> Result<(), String> {
        let (multi, single) = (self.map.unit.borrow(), self.single.borrow());
        let held = |unit: &LogicalUnit, b: NexusId| {
            let held = unit.reservation()?;
            let host = held.holder().map(|nexus| match nexus == b {
                true => Host::B,
                false => Host::A,
            });
            Some((held.kind(), host))
        };
        let (held_multi, held_single) = (held(&multi, self.map.b), held(&single, self.b));
        if held_multi != held_single {
            return Err(format!(
                "reservation is {held_multi:?}, expected {held_single:?}"
            ));
        }
        if multi.key(self.map.b) != single.key(self.b) {
            return Err("key of B differs".to_owned());
        }
        let expected = self.key();
        for (path, key) in self.map.paths.iter().zip(self.map.keys()) {
            let is_down = path.state != PathState::Up && key == 0;
            let is_foreign = key == FOREIGN_KEY && self.foreign.contains(&path.nexus);
            if key != expected && !is_down && !is_foreign {
                let state = path.state;
                return Err(format!(
                    "key of {state:?} {path} is {key:#x}, expected {expected:#x}"
                ));
            }
            if path.state == PathState::Up && self.must_write() && !multi.can_write(path.nexus) {
                return Err(format!("{path} cannot write"));
            }
        }
        Ok(())
    }
}

fn describe(host: Host, command: &TestCommand) -> String {
    let flags = [
        (command.aptpl, " APTPL"),
        (command.all_tg_pt, " ALL_TG_PT"),
        (command.unregister, " UNREG"),
        (command.length.is_some(), " wrong length"),
    ];
    let flags = flags.iter().filter(|(is_set, _)| *is_set);
    let flags: String = flags.map(|(_, name)| *name).collect();
    format!(
        "{host:?} {:?} {:#x} -> {:#x}, type {}{flags}",
        command.action, command.key, command.action_key, command.kind
    )
}

/// Registers a key through one path, not through the map.
fn register_directly(map: &Map, nexus: NexusId, key: u64) {
    let register = TestCommand {
        aptpl: map.unit.borrow().aptpl(),
        ..TestCommand::new(OutServiceAction::RegisterAndIgnoreExistingKey, 0, key)
    };
    without_attentions(|| execute_on_nexus(&map.unit, nexus, &register));
}

/// Number of paths, number of those that are added later, and the events.
type Case = (usize, usize, Version, Vec<Event>);

fn case(paths: usize) -> impl Strategy<Value = Case> {
    let absent = prop_oneof![2 => Just(0_usize), 1 => Just(1)];
    let version = prop_oneof![
        Just(Version::V0_9_4),
        Just(Version::V0_11_1),
        Just(Version::V0_15)
    ];
    (Just(paths), absent, version, vec(event(), 0..60))
}

/// Runs the events of a case. Returns the number of commands, or the events up to the one that
/// failed, and the reason.
fn run((paths, absent, version, events): &Case) -> Result<usize, String> {
    let mut units = Units::new(*paths, (*absent).min(paths - 1), *version);
    for event in events {
        units.run(event).map_err(|error| {
            let events = units.history.join("\n");
            format!("{paths} paths, {version:?}:\n{events}\n{error}")
        })?;
    }
    let is_command = |event: &&Event| matches!(event, Event::Command { .. });
    Ok(events.iter().filter(is_command).count())
}

#[test]
fn several_paths_leave_the_state_of_one_nexus() {
    let commands = env::var(COMMANDS_VARIABLE)
        .ok()
        .map(|text| text.parse().unwrap());
    let commands: u32 = commands.unwrap_or(DEFAULT_COMMANDS);
    for paths in PATH_COUNTS {
        let config = ProptestConfig {
            max_shrink_iters: 20_000,
            source_file: Some(file!()),
            ..ProptestConfig::with_cases(commands / COMMANDS_PER_CASE)
        };
        let (start, executed) = (Instant::now(), AtomicUsize::new(0));
        let result = TestRunner::new(config).run(&case(paths), |case| {
            let commands = run(&case).map_err(TestCaseError::fail)?;
            executed.fetch_add(commands, Ordering::Relaxed);
            Ok(())
        });
        let (executed, seconds) = (executed.into_inner(), start.elapsed().as_secs_f64());
        println!("{paths} paths: {executed} commands in {seconds:.1} s");
        if let Err(TestError::Fail(reason, _)) = result {
            panic!("{reason}");
        }
        result.unwrap();
    }
}
