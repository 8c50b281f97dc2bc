// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fault cases: a path fails, or multipathd restarts, at a defined step of a command, so that every
//! run is the same. With a seed, also at random steps.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::{Context as _, Result, ensure};

use super::commands::{
    PrOutCommand, REGISTRANTS, clear, preempt, register, register_and_ignore, release, reserve,
};
use super::fault_fixture::{FaultFixture, KEY, NEW};
use super::fixture::Fault;
use super::worker_steps::WorkerSteps;

/// Key of the other host.
const OTHER: u64 = 0xb2;

/// Number of random cases, and the highest step at which something happens.
const RANDOM_CASES: usize = 60;
const MAX_STEP: usize = 4;

/// A command of the guest, and the states before and after it.
struct Command {
    name: &'static str,
    before: Vec<PrOutCommand>,
    /// Commands of the other host, after `before`.
    other: Vec<PrOutCommand>,
    pr_out: PrOutCommand,
    /// Keys after the command, with both paths in use.
    keys: Vec<u64>,
    reservation: Option<(u64, u8)>,
}

/// An event during a command.
#[derive(Clone, Copy)]
enum Event {
    /// A path fails, and returns after the reply.
    Failure { path: usize, fault: Fault },
    /// multipathd is killed and restarted.
    Restart,
}

/// Numbers of a command's steps. A command that is repeated on the same path is one step: each unit
/// attention causes a repetition, unless multipathd's checker has consumed it.
struct Steps {
    /// The first PERSISTENT RESERVE OUT to a path.
    first: usize,
    last: usize,
}

impl Command {
    fn new(name: &'static str, before: &[PrOutCommand], pr_out: PrOutCommand) -> Self {
        Self {
            name,
            before: before.to_vec(),
            other: Vec::new(),
            pr_out,
            keys: vec![KEY; 2],
            reservation: None,
        }
    }

    fn after_other(self, other: &[PrOutCommand]) -> Self {
        let other = other.to_vec();
        Self { other, ..self }
    }

    fn keys(self, keys: &[u64]) -> Self {
        let keys = keys.to_vec();
        Self { keys, ..self }
    }

    fn held_by(self, key: u64) -> Self {
        let reservation = Some((key, REGISTRANTS));
        Self {
            reservation,
            ..self
        }
    }

    /// Returns whether multipathd receives or drops a key.
    fn changes_key(&self) -> bool {
        matches!(self.pr_out.cdb[1], 0 | 6) || self.keys.is_empty()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure { path, fault } => {
                let name = ["first", "second"][*path];
                write!(f, "{name} path fails ({fault:?})")
            }
            Self::Restart => f.write_str("multipathd restarts"),
        }
    }
}

fn commands() -> Vec<Command> {
    let registered = [register(0, KEY)];
    let reserved = [register(0, KEY), reserve(KEY, REGISTRANTS)];
    let other_holds = [register_and_ignore(OTHER), reserve(OTHER, REGISTRANTS)];
    let preempts = |victim| preempt(KEY, victim, REGISTRANTS);
    vec![
        Command::new("REGISTER", &[], register(0, KEY)),
        Command::new("REGISTER, new key", &reserved, register(KEY, NEW))
            .keys(&[NEW; 2])
            .held_by(NEW),
        Command::new("REGISTER AND IGNORE", &registered, register_and_ignore(NEW)).keys(&[NEW; 2]),
        Command::new("unregister", &reserved, register(KEY, 0)).keys(&[]),
        Command::new("RESERVE", &registered, reserve(KEY, REGISTRANTS)).held_by(KEY),
        Command::new("RELEASE", &reserved, release(KEY, REGISTRANTS)),
        Command::new("CLEAR", &reserved, clear(KEY)).keys(&[]),
        Command::new("PREEMPT", &registered, preempts(OTHER))
            .after_other(&other_holds)
            .held_by(KEY),
        Command::new("PREEMPT, own key", &reserved, preempts(KEY)).held_by(KEY),
    ]
}

/// Runs all cases. The returned fixture has another helper.
pub(super) fn run(faults: FaultFixture<'_>, seed: Option<u64>) -> Result<FaultFixture<'_>> {
    let (steps, strace) = WorkerSteps::create()?;
    let mut faults = faults.restart_through(&strace)?;
    let mut at_step = AtStep {
        faults: &mut faults,
        steps: &steps,
    };
    let unnoticed = at_step.unnoticed_failure();
    unnoticed.context("path down for a moment")?;
    for command in &commands() {
        at_step.run(command)?;
    }
    if let Some(seed) = seed {
        println!("guest: events at random steps: --multipath-seed={seed}");
        let random = at_step.run_random(seed);
        random.with_context(|| format!("--multipath-seed={seed}"))?;
    }
    let faults = faults.restart(&[])?;
    steps.finish()?;
    Ok(faults)
}

/// Runs commands of the guest, and acts at the steps of their workers.
struct AtStep<'a, 'b> {
    faults: &'a mut FaultFixture<'b>,
    steps: &'a WorkerSteps,
}

impl AtStep<'_, '_> {
    /// A path fails before the command, after the first path has executed it, and after the last
    /// step. multipathd restarts after the first path has executed a command that changes the key.
    fn run(&mut self, command: &Command) -> Result<()> {
        let steps = self.steps_of(command).context(command.name)?;
        let failure = |path, fault| Event::Failure { path, fault };
        let mut events = vec![
            (0, failure(0, Fault::Transport)),
            (steps.first, failure(0, Fault::Disk)),
            (steps.first, failure(1, Fault::Disk)),
        ];
        if command.changes_key() {
            events.push((steps.first, Event::Restart));
        }
        if steps.last > steps.first {
            events.push((steps.last, failure(1, Fault::Disk)));
        }
        for (step, event) in events {
            let happened = self.with_event(command, step, event)?;
            ensure!(happened, "{event}: step {step} was not reached");
        }
        Ok(())
    }

    /// Runs a command without an event, and returns its steps.
    fn steps_of(&mut self, command: &Command) -> Result<Steps> {
        self.prepare(command)?;
        let mut all = Vec::new();
        let guest = &mut self.faults.guest;
        let reply = self.steps.send(guest, &command.pr_out, |step| {
            all.push((step.to_string(), step.is_pr_out()));
            Ok(())
        })?;
        ensure!(reply.is_good(), "{reply}");
        all.dedup();
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        println!("fault: {}: steps: {}", command.name, names.join(", "));
        self.check(command)?;
        let first = all.iter().position(|(_, is_pr_out)| *is_pr_out);
        Ok(Steps {
            first: first.context("no PERSISTENT RESERVE OUT was sent to a path")? + 1,
            last: all.len(),
        })
    }

    /// Runs a command during which an event happens: before it (0), or after this step. Returns
    /// whether the step was reached.
    fn with_event(&mut self, command: &Command, at: usize, event: Event) -> Result<bool> {
        let case = format!("{}: {event} at step {at}", command.name);
        let happened = self.try_with_event(command, at, event);
        println!("fault: {case}");
        happened.context(case)
    }

    fn try_with_event(&mut self, command: &Command, at: usize, event: Event) -> Result<bool> {
        self.prepare(command)?;
        let fixture = self.faults.fixture;
        let happen = || match event {
            Event::Failure { path, fault } => fixture.paths[path].fail(fault),
            Event::Restart => {
                fixture.multipathd.kill()?;
                fixture.multipathd.restart()
            }
        };
        let mut happened = at == 0;
        if happened {
            happen()?;
        }
        let guest = &mut self.faults.guest;
        let mut number = 0;
        let mut last = String::new();
        let reply = self.steps.send(guest, &command.pr_out, |step| {
            let name = step.to_string();
            number += usize::from(name != last);
            last = name;
            if number == at && !happened {
                happened = true;
                happen()?;
            }
            Ok(())
        })?;
        ensure!(reply.is_good(), "{reply}");
        self.faults.expect_reservation(command.reservation)?;
        if happened && let Event::Failure { path, fault } = event {
            let path = &fixture.paths[path];
            // multipathd registers a path only if it has noticed the failure.
            match self.faults.registered_keys()? == command.keys {
                true => path.restore(fault)?,
                false => self.faults.restore(path, fault)?,
            }
        }
        fixture.both_active()?;
        if let Event::Restart = event
            && self.is_registered_again(command)?
        {
            return Ok(happened);
        }
        self.check(command)?;
        Ok(happened)
    }

    /// Returns whether a path is registered although the guest has unregistered.
    ///
    /// multipathd 0.15 looks for its key when it starts. While the second path still has the key,
    /// it registers the first path again, which the worker has unregistered already. `mpathpersist`
    /// removes multipathd's key first, so no registration remains.
    fn is_registered_again(&self, command: &Command) -> Result<bool> {
        let is_unregister = command.pr_out.cdb[1] == 0 && command.keys.is_empty();
        Ok(is_unregister && self.faults.registered_keys()? == [KEY])
    }

    /// Creates the state before a command.
    fn prepare(&mut self, command: &Command) -> Result<()> {
        self.faults.clean()?;
        for pr_out in &command.before {
            self.faults.expect_good("before", pr_out)?;
        }
        for pr_out in &command.other {
            let reply = self.faults.other.reserve_out(pr_out);
            ensure!(reply.is_good(), "other host: {reply}");
        }
        let fixture = self.faults.fixture;
        for path in &fixture.paths {
            path.device.drain()?;
        }
        // multipathd can notice a short failure late, and the map needs a path when the next one
        // fails.
        fixture.both_active()
    }

    /// Checks the state after a command.
    fn check(&self, command: &Command) -> Result<()> {
        self.faults.wait_for_keys(command.name, &command.keys)?;
        self.faults.expect_reservation(command.reservation)?;
        let fixture = self.faults.fixture;
        let stored = fixture
            .multipathd
            .command(&["getprkey", "map", &fixture.name])?;
        let key = command.keys.first();
        let key = key.map_or_else(|| "none".to_owned(), |key| format!("{key:#x}"));
        ensure!(
            stored.trim() == key,
            "multipathd's key is {stored:?} instead of {key}"
        );
        Ok(())
    }

    /// A path is down during REGISTER and returns before multipathd notices, which is stopped
    /// meanwhile. multipathd registers the path only if its version does so for each new key (since
    /// 0.14); otherwise the guest's next REGISTER does.
    fn unnoticed_failure(&mut self) -> Result<()> {
        self.faults.clean()?;
        let fixture = self.faults.fixture;
        let [first, failed] = &fixture.paths;
        let mut seen = Vec::new();
        let guest = &mut self.faults.guest;
        let reply = self.steps.send(guest, &register(0, KEY), |step| {
            if step.is_pr_out() {
                seen.push(step.path().to_owned());
            }
            let is_of_first = step.is_pr_out() && step.path() == first.name;
            match (is_of_first, seen.len()) {
                (true, 1) => {
                    fixture.multipathd.freeze()?;
                    failed.fail(Fault::Disk)
                }
                (true, _) => {
                    failed.restore(Fault::Disk)?;
                    fixture.multipathd.thaw()
                }
                (false, _) => Ok(()),
            }
        })?;
        ensure!(reply.is_good(), "REGISTER: {reply}");
        ensure!(
            seen.first() == seen.last() && seen.contains(&failed.name),
            "REGISTER used the paths {seen:?}"
        );
        let keys = self.faults.registered_keys()?;
        println!("guest: after a short path failure: keys {keys:x?}");
        let again = register(KEY, KEY);
        self.faults
            .expect_good("path restored: REGISTER, same key", &again)?;
        self.faults.expect_keys(&[KEY; 2])?;
        self.faults.clean()
    }

    /// Runs random commands with random events at random steps. Nothing happens if a command does
    /// not have that step.
    fn run_random(&mut self, seed: u64) -> Result<()> {
        let commands = commands();
        for case in 0..RANDOM_CASES {
            let choose = |what: &str, count: usize| {
                let mut hasher = DefaultHasher::new();
                (seed, case, what).hash(&mut hasher);
                usize::try_from(hasher.finish() % count as u64).unwrap_or_default()
            };
            let command = &commands[choose("command", commands.len())];
            let step = choose("step", MAX_STEP + 1);
            let path = choose("path", 2);
            let event = match choose("event", 3) {
                0 => Event::Restart,
                1 => Event::Failure {
                    path,
                    fault: Fault::Disk,
                },
                _ => Event::Failure {
                    path,
                    fault: Fault::Transport,
                },
            };
            self.with_event(command, step, event)?;
        }
        Ok(())
    }
}
