// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations and reservation of the logical unit, as the target lists them in configfs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::iscsi_target::initiator_name;
use crate::guest::read;
use crate::role::Role;
use pr_testkit::process::poll;

/// The target's name of reservation type 5.
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: &str = "Write Exclusive Access, Registrants Only";

/// Maximum time until a daemon has changed a registration.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Registrations and reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PrState {
    /// Number of registered paths by host and key.
    registered: BTreeMap<(Role, u64), usize>,
    /// Holder and type of the reservation.
    reservation: Option<(Role, String)>,
}

impl PrState {
    /// Adds the registrations of paths.
    #[must_use]
    pub(super) fn registered(mut self, host: Role, key: u64, paths: usize) -> Self {
        self.registered.insert((host, key), paths);
        self
    }

    /// Adds a reservation of type Write Exclusive, Registrants Only.
    #[must_use]
    pub(super) fn held_by(mut self, host: Role) -> Self {
        self.reservation = Some((host, WRITE_EXCLUSIVE_REGISTRANTS_ONLY.to_owned()));
        self
    }

    /// Reads the state from the target.
    fn read(dir: &Path) -> Result<Self> {
        let attribute = |name: &str| read(&dir.join(name));
        Self::parse(
            &attribute("res_pr_registered_i_pts")?,
            &attribute("res_holder")?,
            &attribute("res_pr_type")?,
        )
    }

    /// Parses the target's attributes: lines `iSCSI Node: NAME,i,0xISID Key: 0xKEY PRgen: 0xN`, and
    /// `SPC-3 Reservation: iSCSI Initiator: NAME,i,0xISID` with `SPC-3 Reservation Type: TYPE`.
    fn parse(registrations: &str, holder: &str, kind: &str) -> Result<Self> {
        let mut state = Self::default();
        for line in registrations.lines().filter(|line| line.contains(" Key: ")) {
            let words: Vec<_> = line.split_whitespace().collect();
            let [_, "Node:", port, "Key:", key, ..] = words[..] else {
                bail!("not a registration: {line}");
            };
            let key = key.trim_start_matches("0x");
            let key = u64::from_str_radix(key, 16).with_context(|| format!("in {line}"))?;
            *state.registered.entry((host(port)?, key)).or_default() += 1;
        }
        if let Some((_, port)) = holder.split_once("Initiator: ") {
            let kind = kind.trim_start_matches("SPC-3 Reservation Type: ");
            state.reservation = Some((host(port)?, kind.to_owned()));
        }
        Ok(state)
    }
}

/// Returns the host of an initiator port, `NAME,i,0xISID`.
fn host(port: &str) -> Result<Role> {
    let name = port.split(',').next().unwrap_or_default();
    let mut hosts = Role::HOSTS.into_iter();
    let host = hosts.find(|&host| initiator_name(host) == name);
    host.with_context(|| format!("{port} is not a port of a host"))
}

impl fmt::Display for PrState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.registered.is_empty() {
            f.write_str("no registrations, ")?;
        }
        for ((host, key), paths) in &self.registered {
            write!(f, "{} {paths} x {key:#x}, ", host.name())?;
        }
        match &self.reservation {
            Some((host, kind)) => write!(f, "{} holds {kind}", host.name()),
            None => f.write_str("no reservation"),
        }
    }
}

/// The state in configfs.
pub(super) struct Witness<'a>(pub(super) &'a Path);

impl Witness<'_> {
    /// Fails if the unit has another state.
    pub(super) fn expect(&self, expected: &PrState) -> Result<()> {
        let seen = PrState::read(self.0)?;
        if seen != *expected {
            bail!("the target has: {seen}; expected: {expected}");
        }
        println!("target: {seen}");
        Ok(())
    }

    /// Waits until a daemon of a host has caused a state.
    pub(super) fn wait_for(&self, expected: &PrState) -> Result<()> {
        let reached = || Ok((PrState::read(self.0)? == *expected).then_some(()));
        poll(CHANGE_TIMEOUT, reached)?;
        self.expect(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_target_are_parsed() {
        let registration = |session| {
            format!(
                "iSCSI Node: iqn.2026-11.test:host-a,i,0x00023d00000{session} \
                 Key: 0x0000000000123abc PRgen: 0x00000001\n"
            )
        };
        let registrations = format!(
            "SPC-3 PR Registrations:\n{}{}",
            registration(1),
            registration(2)
        );
        let holder =
            "SPC-3 Reservation: iSCSI Initiator: iqn.2026-11.test:host-a,i,0x00023d000001\n";
        let kind = "SPC-3 Reservation Type: Write Exclusive Access, Registrants Only\n";
        let state = PrState::parse(&registrations, holder, kind.trim_end()).unwrap();
        let expected = PrState::default().registered(Role::HostA, 0x12_3abc, 2);
        assert_eq!(state, expected.held_by(Role::HostA));

        let none = PrState::parse(
            "SPC-3 PR Registrations:\nNone",
            "No SPC-3 Reservation holder",
            "",
        );
        assert_eq!(none.unwrap(), PrState::default());
    }
}
