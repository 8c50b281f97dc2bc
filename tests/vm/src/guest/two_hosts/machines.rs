// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machines of the scenario, as the target's machine uses them.

use std::net::TcpListener;

use anyhow::Result;

use super::iscsi_target::IscsiUnit;
use super::pr_state::Witness;
use super::remote_guest::RemoteGuest;
use super::remote_host::RemoteHost;
use super::request::Request;
use crate::role::Role;
use pr_testkit::process::timed;

/// The target and the hosts.
pub(super) struct Machines {
    pub(super) unit: IscsiUnit,
    pub(super) listener: TcpListener,
    pub(super) hosts: [RemoteHost; 2],
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
