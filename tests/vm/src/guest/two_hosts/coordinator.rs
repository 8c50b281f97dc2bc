// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scenario's steps, which run on the target's machine.

use anyhow::{Context as _, Result};

use super::iscsi_target;
use super::machines::Machines;
use super::remote_host::accept_all;
use super::request::Request;
use super::{fencing, kernel_log, migrations};
use crate::guest::{Modules, uptime};
use crate::role::Role;
use pr_testkit::process::timed;

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
