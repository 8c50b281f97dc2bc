// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `two-hosts`: an iSCSI target with two portals, and two hosts, each with a path to both
//! portals, multipathd, QEMU and a helper.
//!
//! A guest that holds a reservation and writes migrates between the hosts, also while paths are
//! down, and the guest of one host fences the other host. The target decides: after each step, its
//! list of registrations and its reservation must be the ones expected, and it observes the guest's
//! writes. Its machine runs the steps; the hosts execute requests.

mod coordinator;
mod fence_agents;
mod fencing;
mod host;
mod iscsi_initiator;
mod iscsi_target;
mod machines;
mod migrations;
mod network;
mod pr_state;
mod remote_guest;
mod remote_host;
mod request;
mod writer;

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::nested_guest;
use super::{Modules, write};
use crate::role::Role;
pub(crate) use fence_agents::{Agent, fence, unfence};
use pr_testkit::process::{command, text};

/// Arguments of each machine.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    nested: nested_guest::Programs,
    /// Role of this machine
    role: Role,
}

/// Runs the machine's part of the scenario.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    network::configure(options.role, modules)?;
    match options.role {
        Role::Target => coordinator::run(modules),
        host => host::run(host, &options.nested, modules),
    }
}

/// Returns the machine's kernel messages, which end with the stacks of blocked tasks.
fn kernel_log() -> String {
    write(Path::new("/proc/sysrq-trigger"), "w")
        .and_then(|()| text(&mut command("dmesg")))
        .unwrap_or_else(|error| format!("({error:#})"))
}
