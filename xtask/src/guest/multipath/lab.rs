//! What the fault cases have in front of them: the map, a guest on it, another host who sees what is
//! registered, and a protocol of answers and times.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use scsi_pr::ReservationData;

use super::commands::{Order, register_and_ignore};
use super::daemons::PATIENCE;
use super::device::{Device, Reply};
use super::explain::port_of;
use super::side::registrations;
use super::stage::{Fault, Route, Stage, State};
use super::through::{ARGUMENTS, Guest, TIMEOUT, clocked};
use crate::guest::helper::{Helper, complaints};
use crate::guest::lio::Port;
use crate::process::poll;

/// The guest's key, and another one of its.
pub(super) const KEY: u64 = 0xa1;
pub(super) const NEW: u64 = 0xc3;

/// ABORTED COMMAND: LOGICAL UNIT COMMUNICATION FAILURE, I/O PROCESS TERMINATED, COMMAND TIMEOUT DURING
/// PROCESSING.
pub(super) const UNREACHABLE: [u8; 3] = [0x0b, 0x08, 0x00];
pub(super) const TERMINATED: [u8; 3] = [0x0b, 0x00, 0x06];
pub(super) const TIMED_OUT: [u8; 3] = [0x0b, 0x2e, 0x02];

/// All of it.
pub(super) struct Lab<'a> {
    pub(super) stage: &'a Stage,
    pub(super) guest: Guest,
    pub(super) helper: Helper,
    /// A map that nothing happens to.
    pub(super) elsewhere: &'a Path,
    /// The other host's port.
    pub(super) other: Device,
    program: &'a Path,
}

impl<'a> Lab<'a> {
    /// Starts a helper for it.
    pub(super) fn new(
        stage: &'a Stage,
        program: &'a Path,
        other: &Port,
        elsewhere: &'a Path,
    ) -> Result<Self> {
        let helper = Helper::start_with(program, &ARGUMENTS, &[])?;
        Ok(Self {
            guest: Guest::connect(&stage.map.path)?,
            other: Device::open(&other.block)?,
            helper,
            stage,
            elsewhere,
            program,
        })
    }

    /// Ends the helper and starts a new one, which has said nothing yet.
    pub(super) fn restart(self, variables: &[(&str, &str)]) -> Result<Self> {
        self.helper.stop()?;
        let helper = Helper::start_with(self.program, &ARGUMENTS, variables)?;
        Ok(Self {
            guest: Guest::connect(&self.stage.map.path)?,
            helper,
            ..self
        })
    }

    /// The same after the helper was killed.
    pub(super) fn kill(self) -> Result<Self> {
        self.helper.kill()?;
        let helper = Helper::start_with(self.program, &ARGUMENTS, &[])?;
        Ok(Self {
            guest: Guest::connect(&self.stage.map.path)?,
            helper,
            ..self
        })
    }

    /// Has the guest send a command, which has to be answered in time.
    pub(super) fn tell(&mut self, case: &str, order: &Order) -> Result<Reply> {
        let (reply, time) = clocked(|| self.guest.tell(order))?;
        self.note(case, reply, time, TIMEOUT)
    }

    /// Has the guest ask READ KEYS.
    pub(super) fn ask(&mut self, case: &str) -> Result<Reply> {
        let (reply, time) = clocked(|| self.guest.ask(0, 8192))?;
        self.note(case, reply, time, TIMEOUT)
    }

    /// Takes an answer down, which must not have taken longer than `limit`.
    pub(super) fn note(
        &self,
        case: &str,
        reply: Reply,
        time: Duration,
        limit: Duration,
    ) -> Result<Reply> {
        measured(case, &reply, time);
        ensure!(time <= limit, "{case}: {reply} after {time:?}");
        Ok(reply)
    }

    /// As [`Lab::tell`]; it has to be done.
    pub(super) fn done(&mut self, case: &str, order: &Order) -> Result<()> {
        let reply = self.tell(case, order)?;
        ensure!(reply.is_good(), "{case}: {reply}");
        Ok(())
    }

    /// As [`Lab::tell`]; it has to be refused so.
    pub(super) fn refused(&mut self, case: &str, order: &Order, sense: [u8; 3]) -> Result<()> {
        let reply = self.tell(case, order)?;
        expect_sense(case, &reply, sense)
    }

    /// As [`Lab::ask`]; the keys have to be these.
    pub(super) fn sees(&mut self, case: &str, keys: &[u64]) -> Result<()> {
        let reply = self.ask(case)?;
        let seen = keys_of(&reply).with_context(|| case.to_owned())?;
        ensure!(seen == keys, "{case}: the guest sees the keys {seen:x?}");
        Ok(())
    }

    /// The other host has to see these keys.
    pub(super) fn keys(&self, keys: &[u64]) -> Result<()> {
        let seen = self.seen()?;
        ensure!(seen == keys, "the keys are {seen:x?}, and not {keys:x?}");
        Ok(())
    }

    /// It has to see them before long: multipathd registers paths that come back.
    pub(super) fn keys_come(&self, case: &str, keys: &[u64]) -> Result<()> {
        let (there, time) =
            clocked(|| poll(PATIENCE, || Ok((self.seen()? == keys).then_some(()))))?;
        there.with_context(|| format!("{case}: the keys stay {:x?}", self.seen()))?;
        measured(case, &format!("keys {keys:x?}"), time);
        Ok(())
    }

    /// What keys the other host sees.
    pub(super) fn seen(&self) -> Result<Vec<u64>> {
        self.other.drain()?;
        keys_of(&self.other.reserve_in(0, 8192))
    }

    /// Key and type of the reservation have to be these.
    pub(super) fn reserved(&self, expected: Option<(u64, u8)>) -> Result<()> {
        self.other.drain()?;
        let reply = self.other.reserve_in(1, 255);
        let Reply::Answer {
            status: 0, data, ..
        } = &reply
        else {
            bail!("READ RESERVATION: {reply}");
        };
        let held = ReservationData::decode(data)?.reservation;
        let held = held.map(|held| (held.key.get(), held.scope_type.0));
        ensure!(
            held == expected,
            "reserved is {held:x?}, and not {expected:x?}"
        );
        Ok(())
    }

    /// The path that holds the reservation, and the other one.
    pub(super) fn holder(&self) -> Result<[&'a Route; 2]> {
        let all = registrations(&self.other)?.descriptors;
        let holder = all.iter().find(|one| one.holder).and_then(port_of);
        let [one, two] = &self.stage.routes;
        match holder {
            Some(port) if port == one.port => Ok([one, two]),
            Some(port) if port == two.port => Ok([two, one]),
            _ => bail!("no path of ours holds the reservation: {all:x?}"),
        }
    }

    /// Gives a path back, and waits until it is used. multipathd registers those alone that it has seen
    /// going.
    pub(super) fn mend(&self, route: &Route, fault: Fault) -> Result<()> {
        self.stage.wait_for_path(route, State::Failed)?;
        route.mend(fault)?;
        self.stage.both_active()
    }

    /// Leaves nothing registered.
    pub(super) fn clean(&mut self) -> Result<()> {
        for route in &self.stage.routes {
            route.device.drain()?;
        }
        self.done("unregister", &register_and_ignore(0))?;
        for route in &self.stage.routes {
            route.device.drain()?;
        }
        self.reserved(None)?;
        self.keys(&[])
    }

    /// The helper has to have said one line with these words since it was started.
    pub(super) fn said_once(&self, words: &[&str]) -> Result<()> {
        let said = complaints();
        let lines = said
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)));
        let count = lines.inspect(|line| println!("guest: log: {line}")).count();
        ensure!(count == 1, "{count} lines with {words:?} in:\n{said}");
        Ok(())
    }
}

/// A line of the protocol.
pub(super) fn measured(case: &str, answer: &impl ToString, time: Duration) {
    let answer = answer.to_string();
    println!("fault: {case:55} {answer:55} {:.2} s", time.as_secs_f32());
}

/// The answer has to be this CHECK CONDITION.
pub(super) fn expect_sense(case: &str, reply: &Reply, sense: [u8; 3]) -> Result<()> {
    ensure!(reply.sense() == Some(sense), "{case}: {reply}");
    Ok(())
}

/// What READ KEYS has answered.
fn keys_of(reply: &Reply) -> Result<Vec<u64>> {
    let Reply::Answer {
        status: 0, data, ..
    } = reply
    else {
        bail!("READ KEYS: {reply}");
    };
    let keys = scsi_pr::Keys::decode(data)?.complete();
    let keys = keys.context("READ KEYS is cut off")?.keys;
    Ok(keys.iter().map(|key| key.get()).collect())
}
