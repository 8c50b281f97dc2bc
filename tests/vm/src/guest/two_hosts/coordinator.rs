// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scenario's steps, which run on the target's machine.

use std::net::TcpListener;

use anyhow::{Context as _, Result};

use super::iscsi_target::{self, IscsiUnit};
use super::pr_state::Witness;
use super::remote_guest::RemoteGuest;
use super::remote_host::{RemoteHost, accept_all};
use super::request::Request;
use super::{fencing, kernel_log, migrations};
use crate::guest::{Modules, uptime};
use crate::role::Role;
use pr_testkit::process::timed;

/// The target and the hosts.
pub(super) struct Machines {
    pub(super) unit: IscsiUnit,
    listener: TcpListener,
    hosts: [RemoteHost; 2],
}

impl Machines {
    pub(super) fn host(&mut self, role: Role) -> &mut RemoteHost {
        let [host_a, host_b] = &mut self.hosts;
        if role == Role::HostB { host_b } else { host_a }
    }

    /// Boots a guest.
    pub(super) fn boot(&mut self, host: Role) -> Result<RemoteGuest> {
        timed("boot of a guest", || {
            let guest = self.host(host).start_guest(Request::Boot)?;
            guest.wait_for_boot()?;
            Ok(guest)
        })
    }

    /// Waits until a host is ready again after a crash.
    pub(super) fn wait_for_restart(&mut self, host: Role) -> Result<()> {
        let Self {
            listener,
            hosts: [host_a, host_b],
            ..
        } = self;
        let host = if host == Role::HostB { host_b } else { host_a };
        host.wait_for_restart(listener)
    }

    pub(super) fn witness(&self) -> Witness<'_> {
        Witness(&self.unit.reservations)
    }
}

/// Runs all steps. Prints the hosts' logs after a failure.
pub(super) fn run(modules: &Modules) -> Result<()> {
    let unit = iscsi_target::start(modules)?;
    println!("guest: target ready after {} s", uptime()?);
    let (listener, hosts) = timed("setup of the hosts", accept_all)?;
    let mut machines = Machines {
        unit,
        listener,
        hosts,
    };
    let result = steps(&mut machines);
    if result.is_err() {
        eprintln!("target kernel:\n{}", kernel_log());
        for role in Role::HOSTS {
            let logs = machines.host(role).execute(Request::Logs);
            let logs = logs.unwrap_or_else(|error| format!("no logs: {error:#}"));
            eprintln!("{} logs:\n{logs}", role.name());
        }
    }
    result
}

fn steps(machines: &mut Machines) -> Result<()> {
    let guest = timed("migrations", || migrations::run(machines)).context("migrations")?;
    timed("fencing", || fencing::run(machines, guest)).context("fencing")
}
