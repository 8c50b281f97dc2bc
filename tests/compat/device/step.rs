// SPDX-License-Identifier: MIT OR Apache-2.0

//! Transcripts: commands with their expected results.

use std::fmt::Write;
use std::fs::File;

use anyhow::{Result, bail};

use super::lun::{self, Lun};
use super::wire::{Type, basic};
use crate::client::{Cdb, Client, Response, pr_in, pr_out};
use crate::helper::Helper;
use crate::scratch::Scratch;

/// Index of the initiator port of a command.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// A device of another kind, in transcripts that use one.
pub(super) const OTHER: usize = 2;

/// Keys of the ports.
pub(super) const KEY_A: u64 = 0xaaaa_0000_0000_000a;
pub(super) const KEY_B: u64 = 0xbbbb_0000_0000_000b;

#[derive(Clone, Debug)]
enum Action {
    /// A command through the helper, with its parameter list.
    ThroughHelper(Cdb, Vec<u8>),
    /// A command without the helper, with the length of its data-in and its data-out.
    Direct(Vec<u8>, usize, Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Good,
    Data(Vec<u8>),
    Conflict,
    Sense(u8, u8, u8),
}

/// A command and its expected result.
#[derive(Clone, Debug)]
pub(super) struct Step {
    port: usize,
    action: Action,
    expected: Expected,
}

impl Step {
    /// Expects GOOD with this data, in which `PRgeneration` is relative to its value at the start.
    pub(super) fn data(mut self, data: Vec<u8>) -> Self {
        self.expected = Expected::Data(data);
        self
    }

    /// Expects RESERVATION CONFLICT.
    pub(super) fn conflict(mut self) -> Self {
        self.expected = Expected::Conflict;
        self
    }

    /// Expects CHECK CONDITION with this sense data.
    pub(super) fn sense(mut self, key: u8, code: u8, qualifier: u8) -> Self {
        self.expected = Expected::Sense(key, code, qualifier);
        self
    }

    /// Expects GOOD if `allowed`, and otherwise RESERVATION CONFLICT.
    pub(super) fn allowed(self, allowed: bool) -> Self {
        if allowed { self } else { self.conflict() }
    }
}

/// Returns a step that expects GOOD.
fn step(port: usize, action: Action) -> Step {
    let expected = Expected::Good;
    Step {
        port,
        action,
        expected,
    }
}

/// Returns PERSISTENT RESERVE OUT with any CDB and parameter list.
pub(super) fn reserve_out(port: usize, cdb: Cdb, parameters: Vec<u8>) -> Step {
    step(port, Action::ThroughHelper(cdb, parameters))
}

/// Returns PERSISTENT RESERVE OUT with the length of the parameter list in the CDB.
pub(super) fn action(port: usize, code: u8, scope_and_type: u8, parameters: Vec<u8>) -> Step {
    let length = u16::try_from(parameters.len()).unwrap_or(u16::MAX);
    reserve_out(port, pr_out(code, scope_and_type, length), parameters)
}

pub(super) fn register(port: usize, key: u64, new: u64) -> Step {
    action(port, 0, 0, basic(key, new, 0))
}

pub(super) fn reserve(port: usize, key: u64, kind: Type) -> Step {
    action(port, 1, kind.code, basic(key, 0, 0))
}

pub(super) fn release(port: usize, key: u64, kind: Type) -> Step {
    action(port, 2, kind.code, basic(key, 0, 0))
}

pub(super) fn clear(port: usize, key: u64) -> Step {
    action(port, 3, 0, basic(key, 0, 0))
}

pub(super) fn preempt(port: usize, key: u64, victim: u64, kind: Type) -> Step {
    action(port, 4, kind.code, basic(key, victim, 0))
}

pub(super) fn preempt_and_abort(port: usize, key: u64, victim: u64, kind: Type) -> Step {
    action(port, 5, kind.code, basic(key, victim, 0))
}

pub(super) fn register_and_ignore(port: usize, key: u64, new: u64) -> Step {
    action(port, 6, 0, basic(key, new, 0))
}

/// Returns PERSISTENT RESERVE IN.
pub(super) fn reserve_in(port: usize, code: u8, allocation: u16) -> Step {
    step(
        port,
        Action::ThroughHelper(pr_in(code, allocation), Vec::new()),
    )
}

pub(super) fn read_keys(port: usize) -> Step {
    reserve_in(port, 0, 8192)
}

pub(super) fn read_reservation(port: usize) -> Step {
    reserve_in(port, 1, 8192)
}

pub(super) fn read_full_status(port: usize) -> Step {
    reserve_in(port, 3, 8192)
}

/// Returns TEST UNIT READY without the helper.
pub(super) fn ready(port: usize) -> Step {
    step(port, Action::Direct(vec![0; 6], 0, Vec::new()))
}

/// Returns READ(10) of the first block without the helper.
pub(super) fn read(port: usize) -> Step {
    let cdb = vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    step(port, Action::Direct(cdb, 512, Vec::new()))
}

/// Returns WRITE(10) of the first block without the helper.
pub(super) fn write(port: usize) -> Step {
    let cdb = vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    step(port, Action::Direct(cdb, 0, vec![0x5a; 512]))
}

/// Runs a transcript on the two ports.
pub(super) fn run_steps(helper: &Helper, steps: &[Step]) -> Result<()> {
    run_steps_on(helper, lun::PORTS, steps)
}

/// Runs a transcript on the devices of a variable.
pub(super) fn run_steps_on(helper: &Helper, variable: &str, steps: &[Step]) -> Result<()> {
    run_steps_with(helper, &Lun::lock(variable)?, steps)
}

/// Runs a transcript on the two ports and the device of a variable.
pub(super) fn run_steps_with_device(helper: &Helper, variable: &str, steps: &[Step]) -> Result<()> {
    let mut lun = Lun::lock(lun::PORTS)?;
    lun.add(variable)?;
    run_steps_with(helper, &lun, steps)
}

/// Runs all steps, also after a wrong one.
fn run_steps_with(helper: &Helper, lun: &Lun, steps: &[Step]) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    let mut failures = String::new();
    for (number, step) in steps.iter().enumerate() {
        let response = execute(&mut client, lun.port(step.port)?, &step.action)?;
        let result = result_of(step, response, lun.generation());
        if result.as_ref() != Ok(&step.expected) {
            let port = ["A", "B", "the other device"][step.port];
            let (action, expected) = (&step.action, &step.expected);
            writeln!(
                failures,
                "step {number} on {port}: {action:02x?}\n  not {expected:02x?}\n  but {result:02x?}"
            )?;
        }
    }
    if !failures.is_empty() {
        bail!("{failures}");
    }
    Ok(())
}

fn execute(client: &mut Client, device: &File, action: &Action) -> Result<Response> {
    match action {
        Action::ThroughHelper(cdb, parameters) => client.command(cdb, parameters, device),
        Action::Direct(cdb, length, bytes) if bytes.is_empty() => {
            lun::receive(device, cdb, *length)
        }
        Action::Direct(cdb, _, bytes) => lun::send(device, cdb, bytes),
    }
}

/// Returns the result as an expectation; the response itself if no expectation corresponds to it.
fn result_of(step: &Step, response: Response, base: u32) -> Result<Expected, Response> {
    let plain = response.data.is_empty();
    match response.status {
        0 if matches!(step.expected, Expected::Data(_)) => Ok(Expected::Data(
            with_relative_generation(base, &step.action, response.data),
        )),
        0 => Ok(Expected::Good),
        0x18 if plain => Ok(Expected::Conflict),
        2 if plain => {
            let (key, code, qualifier) = response.sense_code();
            Ok(Expected::Sense(key, code, qualifier))
        }
        _ => Err(response),
    }
}

/// Returns parameter data with `PRgeneration` relative to `base`.
fn with_relative_generation(base: u32, action: &Action, mut data: Vec<u8>) -> Vec<u8> {
    let has_generation =
        matches!(action, Action::ThroughHelper(cdb, _) if cdb[0] == 0x5e && cdb[1] != 2);
    if let (true, Some(generation)) = (has_generation, data.first_chunk_mut()) {
        *generation = u32::from_be_bytes(*generation)
            .wrapping_sub(base)
            .to_be_bytes();
    }
    data
}
