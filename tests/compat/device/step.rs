//! Transcripts: commands with the answers that they must have.

use std::fmt::Write;
use std::fs::File;

use anyhow::{Result, bail};

use super::lun::{self, Lun};
use super::wire::{Type, basic};
use crate::client::{Answer, Cdb, Client, pr_in, pr_out};
use crate::helper::Helper;
use crate::scratch::Scratch;

/// The initiator port that a command comes from.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// A device of another kind, in transcripts that have one.
pub(super) const OTHER: usize = 2;

/// Keys for them.
pub(super) const KEY_A: u64 = 0xaaaa_0000_0000_000a;
pub(super) const KEY_B: u64 = 0xbbbb_0000_0000_000b;

#[derive(Clone, Debug)]
enum What {
    /// A command through the helper, with its parameters.
    Helped(Cdb, Vec<u8>),
    /// A command past the helper, with the number of bytes that come in and those that go out.
    Direct(Vec<u8>, usize, Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Good,
    Data(Vec<u8>),
    Conflict,
    Sense(u8, u8, u8),
}

/// A command and what it must come to.
#[derive(Clone, Debug)]
pub(super) struct Step {
    port: usize,
    what: What,
    expected: Expected,
}

impl Step {
    /// GOOD with these data; in those that begin with `PRgeneration` it counts from the start.
    pub(super) fn data(mut self, data: Vec<u8>) -> Self {
        self.expected = Expected::Data(data);
        self
    }

    /// RESERVATION CONFLICT.
    pub(super) fn conflict(mut self) -> Self {
        self.expected = Expected::Conflict;
        self
    }

    /// CHECK CONDITION with this sense.
    pub(super) fn sense(mut self, key: u8, code: u8, qualifier: u8) -> Self {
        self.expected = Expected::Sense(key, code, qualifier);
        self
    }

    /// RESERVATION CONFLICT, or GOOD where `allowed`.
    pub(super) fn allowed(self, allowed: bool) -> Self {
        if allowed { self } else { self.conflict() }
    }
}

/// A step that must be GOOD unless it is said otherwise.
fn step(port: usize, what: What) -> Step {
    let expected = Expected::Good;
    Step {
        port,
        what,
        expected,
    }
}

/// PERSISTENT RESERVE OUT with any CDB and parameters.
pub(super) fn out(port: usize, cdb: Cdb, parameters: Vec<u8>) -> Step {
    step(port, What::Helped(cdb, parameters))
}

/// PERSISTENT RESERVE OUT with a parameter list of the right length.
pub(super) fn action(port: usize, code: u8, scope_and_type: u8, parameters: Vec<u8>) -> Step {
    let length = u16::try_from(parameters.len()).unwrap_or(u16::MAX);
    out(port, pr_out(code, scope_and_type, length), parameters)
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

/// PERSISTENT RESERVE IN.
pub(super) fn ask(port: usize, code: u8, allocation: u16) -> Step {
    step(port, What::Helped(pr_in(code, allocation), Vec::new()))
}

pub(super) fn read_keys(port: usize) -> Step {
    ask(port, 0, 8192)
}

pub(super) fn read_reservation(port: usize) -> Step {
    ask(port, 1, 8192)
}

pub(super) fn read_full_status(port: usize) -> Step {
    ask(port, 3, 8192)
}

/// TEST UNIT READY, past the helper.
pub(super) fn ready(port: usize) -> Step {
    step(port, What::Direct(vec![0; 6], 0, Vec::new()))
}

/// READ(10) of the first block, past the helper.
pub(super) fn read(port: usize) -> Step {
    let cdb = vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    step(port, What::Direct(cdb, 512, Vec::new()))
}

/// WRITE(10) of the first block, past the helper.
pub(super) fn write(port: usize) -> Step {
    let cdb = vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    step(port, What::Direct(cdb, 0, vec![0x5a; 512]))
}

/// Runs a transcript on the two ports.
pub(super) fn play(helper: &Helper, steps: &[Step]) -> Result<()> {
    play_on(helper, lun::PORTS, steps)
}

/// Runs a transcript on the devices of a variable.
pub(super) fn play_on(helper: &Helper, variable: &str, steps: &[Step]) -> Result<()> {
    play_with(helper, &Lun::take(variable)?, steps)
}

/// Runs a transcript on the two ports and the device of a variable.
pub(super) fn play_beside(helper: &Helper, variable: &str, steps: &[Step]) -> Result<()> {
    let mut lun = Lun::take(lun::PORTS)?;
    lun.add(variable)?;
    play_with(helper, &lun, steps)
}

/// Makes every step, also after a wrong one.
fn play_with(helper: &Helper, lun: &Lun, steps: &[Step]) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving(&scratch).start()?;
    let mut client = running.client()?;
    let mut wrong = String::new();
    for (number, step) in steps.iter().enumerate() {
        let answer = perform(&mut client, lun.port(step.port)?, &step.what)?;
        let seen = seen(step, answer, lun.generation());
        if seen.as_ref() != Ok(&step.expected) {
            let port = ["A", "B", "the other device"][step.port];
            let (what, expected) = (&step.what, &step.expected);
            writeln!(
                wrong,
                "step {number} on {port}: {what:02x?}\n  not {expected:02x?}\n  but {seen:02x?}"
            )?;
        }
    }
    if !wrong.is_empty() {
        bail!("{wrong}");
    }
    Ok(())
}

fn perform(client: &mut Client, device: &File, what: &What) -> Result<Answer> {
    match what {
        What::Helped(cdb, parameters) => client.command(cdb, parameters, device),
        What::Direct(cdb, length, bytes) if bytes.is_empty() => lun::receive(device, cdb, *length),
        What::Direct(cdb, _, bytes) => lun::send(device, cdb, bytes),
    }
}

/// The answer in the words of an expectation, or the answer itself if there are none for it.
fn seen(step: &Step, answer: Answer, base: u32) -> Result<Expected, Answer> {
    let plain = answer.data.is_empty();
    match answer.status {
        0 if matches!(step.expected, Expected::Data(_)) => {
            Ok(Expected::Data(counted_from(base, &step.what, answer.data)))
        }
        0 => Ok(Expected::Good),
        0x18 if plain => Ok(Expected::Conflict),
        2 if plain => {
            let (key, code, qualifier) = answer.sense_code();
            Ok(Expected::Sense(key, code, qualifier))
        }
        _ => Err(answer),
    }
}

/// Parameter data with `PRgeneration` counted from `base`.
fn counted_from(base: u32, what: &What, mut data: Vec<u8>) -> Vec<u8> {
    let counts = matches!(what, What::Helped(cdb, _) if cdb[0] == 0x5e && cdb[1] != 2);
    if let (true, Some(generation)) = (counts, data.first_chunk_mut()) {
        *generation = u32::from_be_bytes(*generation)
            .wrapping_sub(base)
            .to_be_bytes();
    }
    data
}
