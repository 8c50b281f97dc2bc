// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fixture of the fault cases: the map, a guest on it, another host that checks the registrations,
//! and a log of results and times.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use scsi_pr::ReservationData;

use super::commands::{PrOutCommand, register_and_ignore};
use super::daemons::TIMEOUT as DAEMON_TIMEOUT;
use super::device::{Device, Reply};
use super::endpoint::registrations;
use super::expected_pr_in::port_of;
use super::fixture::{Fault, MapFixture, ScsiPath, State, TURNS};
use super::helper_client::{ARGUMENTS, HelperClient, TIMEOUT, measure};
use crate::guest::helper::{Helper, helper_stderr};
use crate::guest::lio_target::Port;
use pr_testkit::process::poll;

/// Keys of the guest.
pub(super) const KEY: u64 = 0xa1;
pub(super) const NEW: u64 = 0xc3;

/// ABORTED COMMAND: LOGICAL UNIT COMMUNICATION FAILURE, I/O PROCESS TERMINATED, COMMAND TIMEOUT
/// DURING PROCESSING.
pub(super) const UNREACHABLE: [u8; 3] = [0x0b, 0x08, 0x00];
pub(super) const TERMINATED: [u8; 3] = [0x0b, 0x00, 0x06];
pub(super) const TIMED_OUT: [u8; 3] = [0x0b, 0x2e, 0x02];

/// The fixture.
pub(super) struct FaultFixture<'a> {
    pub(super) fixture: &'a MapFixture,
    pub(super) guest: HelperClient,
    pub(super) helper: Helper,
    /// A map without faults.
    pub(super) other_map: &'a Path,
    /// The other host's port.
    pub(super) other: Device,
    program: &'a Path,
}

impl<'a> FaultFixture<'a> {
    /// Starts a helper and connects the guest.
    pub(super) fn new(
        fixture: &'a MapFixture,
        program: &'a Path,
        other: &Port,
        other_map: &'a Path,
    ) -> Result<Self> {
        let helper = Helper::start_with(program, &ARGUMENTS, &[])?;
        Ok(Self {
            guest: HelperClient::connect(&fixture.map.path)?,
            other: Device::open(&other.block)?,
            helper,
            fixture,
            other_map,
            program,
        })
    }

    /// Restarts the helper; its log is empty afterwards.
    pub(super) fn restart(self, variables: &[(&str, &str)]) -> Result<Self> {
        self.restart_with(&ARGUMENTS, variables)
    }

    /// Like [`Self::restart`], with these arguments.
    pub(super) fn restart_with(
        self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        self.helper.stop()?;
        let helper = Helper::start_with(self.program, arguments, variables)?;
        Ok(Self {
            guest: HelperClient::connect(&self.fixture.map.path)?,
            helper,
            ..self
        })
    }

    /// Like [`Self::restart`], with a command that executes the helper's.
    pub(super) fn restart_through(self, wrapper: &[OsString]) -> Result<Self> {
        self.helper.stop()?;
        let helper = Helper::start_through(wrapper, self.program, &ARGUMENTS, &[])?;
        Ok(Self {
            guest: HelperClient::connect(&self.fixture.map.path)?,
            helper,
            ..self
        })
    }

    /// Kills the helper with SIGKILL and starts it again.
    pub(super) fn kill(self) -> Result<Self> {
        self.helper.kill()?;
        let helper = Helper::start_with(self.program, &ARGUMENTS, &[])?;
        Ok(Self {
            guest: HelperClient::connect(&self.fixture.map.path)?,
            helper,
            ..self
        })
    }

    /// Sends a command of the guest, which must complete in time.
    pub(super) fn send(&mut self, case: &str, pr_out: &PrOutCommand) -> Result<Reply> {
        let (reply, time) = measure(|| self.guest.reserve_out(pr_out))?;
        self.check_time(case, reply, time, TIMEOUT)
    }

    /// Sends READ KEYS of the guest.
    pub(super) fn read_keys(&mut self, case: &str) -> Result<Reply> {
        let (reply, time) = measure(|| self.guest.reserve_in(0, 8192))?;
        self.check_time(case, reply, time, TIMEOUT)
    }

    /// Logs a reply, which must not have taken longer than `limit`.
    pub(super) fn check_time(
        &self,
        case: &str,
        reply: Reply,
        time: Duration,
        limit: Duration,
    ) -> Result<Reply> {
        print_timing(case, &reply, time);
        ensure!(time <= limit, "{case}: {reply} after {time:?}");
        Ok(reply)
    }

    /// Sends a command that must succeed.
    pub(super) fn expect_good(&mut self, case: &str, pr_out: &PrOutCommand) -> Result<()> {
        let reply = self.send(case, pr_out)?;
        ensure!(reply.is_good(), "{case}: {reply}");
        Ok(())
    }

    /// Sends a command that must return this sense data.
    pub(super) fn expect_failure(
        &mut self,
        case: &str,
        pr_out: &PrOutCommand,
        sense: [u8; 3],
    ) -> Result<()> {
        let reply = self.send(case, pr_out)?;
        expect_sense(case, &reply, sense)
    }

    /// Sends READ KEYS of the guest, which must return these keys.
    pub(super) fn expect_guest_keys(&mut self, case: &str, keys: &[u64]) -> Result<()> {
        let reply = self.read_keys(case)?;
        let seen = keys_of(&reply).with_context(|| case.to_owned())?;
        ensure!(
            seen == keys,
            "{case}: READ KEYS of the guest returned {seen:x?}"
        );
        Ok(())
    }

    /// Checks the keys that the other host sees.
    pub(super) fn expect_keys(&self, keys: &[u64]) -> Result<()> {
        let seen = self.registered_keys()?;
        ensure!(seen == keys, "the keys are {seen:x?} instead of {keys:x?}");
        Ok(())
    }

    /// Waits until the other host sees these keys: multipathd registers paths that return.
    pub(super) fn wait_for_keys(&self, case: &str, keys: &[u64]) -> Result<()> {
        let (there, time) = measure(|| {
            poll(DAEMON_TIMEOUT, || {
                Ok((self.registered_keys()? == keys).then_some(()))
            })
        })?;
        there
            .with_context(|| format!("{case}: the keys are still {:x?}", self.registered_keys()))?;
        print_timing(case, &format!("keys {keys:x?}"), time);
        Ok(())
    }

    /// Returns the keys that the other host sees.
    pub(super) fn registered_keys(&self) -> Result<Vec<u64>> {
        self.other.drain()?;
        keys_of(&self.other.reserve_in(0, 8192))
    }

    /// Checks the key and type of the reservation.
    pub(super) fn expect_reservation(&self, expected: Option<(u64, u8)>) -> Result<()> {
        self.other.drain()?;
        let reply = self.other.reserve_in(1, 255);
        let Reply::Response {
            status: 0, data, ..
        } = &reply
        else {
            bail!("READ RESERVATION: {reply}");
        };
        let held = ReservationData::decode(data)?.reservation;
        let held = held.map(|held| (held.key.get(), held.scope_type.0));
        ensure!(
            held == expected,
            "the reservation is {held:x?} instead of {expected:x?}"
        );
        Ok(())
    }

    /// Returns the path that holds the reservation, and the other path.
    pub(super) fn holder(&self) -> Result<[&'a ScsiPath; 2]> {
        let all = registrations(&self.other)?.descriptors;
        let holder = all.iter().find(|first| first.holder).and_then(port_of);
        let [first, second] = &self.fixture.paths;
        match holder {
            Some(port) if port == first.port => Ok([first, second]),
            Some(port) if port == second.port => Ok([second, first]),
            _ => bail!("no path of the map holds the reservation: {all:x?}"),
        }
    }

    /// Restores a path and waits until it is in use. multipathd registers a returning path only if
    /// it has noticed the failure, which reads of the map cause sooner than multipathd's checker.
    pub(super) fn restore(&self, path: &ScsiPath, fault: Fault) -> Result<()> {
        self.fixture.read_blocks(TURNS)?;
        self.fixture.wait_for_path(path, State::Failed)?;
        path.restore(fault)?;
        self.fixture.both_active()
    }

    /// Removes all registrations.
    pub(super) fn clean(&mut self) -> Result<()> {
        for path in &self.fixture.paths {
            path.device.drain()?;
        }
        self.expect_good("unregister", &register_and_ignore(0))?;
        for path in &self.fixture.paths {
            path.device.drain()?;
        }
        self.expect_reservation(None)?;
        self.expect_keys(&[])
    }

    /// Checks that the helper has logged exactly one line with these words since its start.
    pub(super) fn expect_log_line(&self, words: &[&str]) -> Result<()> {
        let stderr = helper_stderr();
        let lines = stderr
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)));
        let count = lines.inspect(|line| println!("guest: log: {line}")).count();
        ensure!(count == 1, "{count} lines with {words:?} in:\n{stderr}");
        Ok(())
    }
}

/// Prints a line of the log.
pub(super) fn print_timing(case: &str, answer: &impl ToString, time: Duration) {
    let answer = answer.to_string();
    println!("fault: {case:55} {answer:55} {:.2} s", time.as_secs_f32());
}

/// Checks that a reply is CHECK CONDITION with this sense data.
pub(super) fn expect_sense(case: &str, reply: &Reply, sense: [u8; 3]) -> Result<()> {
    ensure!(reply.sense() == Some(sense), "{case}: {reply}");
    Ok(())
}

/// Returns the keys in a reply of READ KEYS.
fn keys_of(reply: &Reply) -> Result<Vec<u64>> {
    let Reply::Response {
        status: 0, data, ..
    } = reply
    else {
        bail!("READ KEYS: {reply}");
    };
    let keys = scsi_pr::Keys::decode(data)?.complete();
    let keys = keys.context("the data of READ KEYS is truncated")?.keys;
    Ok(keys.iter().map(|key| key.get()).collect())
}
