// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl doctor`: what on this host would break reservations.
//!
//! ```text
//! mod → report → finding → host → vm, domain, multipath_conf, programs
//!         ↓        ↓ ↑
//!       checks ─→ fix, lvm_filter
//! ```
//!
//! A check is a function over a [`Host`], which reads files below a root directory, and an entry in
//! a list of its module in `checks`. docs/doctor.md lists the checks.

mod checks;
mod domain;
mod finding;
mod fix;
#[cfg(test)]
mod fixture;
mod host;
#[cfg(test)]
mod hostile_tests;
mod lvm_filter;
mod multipath_conf;
mod programs;
mod report;
mod subject;
#[cfg(test)]
mod tests;
mod vm;

use std::path::Path;

use clap::Args;
use rustix::process::geteuid;
use thiserror::Error;

use super::Subcommand;
use crate::completion;
use crate::context::Context;
use crate::error::AdvisedError;
use crate::exit::Exit;
use finding::Results;
use host::Host;
use subject::Subject;

pub(crate) const HELP: &str = "\
Find what on this host would break reservations: of the helpers and their
sockets, of virtual machines, their disks, multipathd, and LVM.

Each finding has the file and the value as evidence, its consequence, and the
commands that fix it. Lines that begin with \"#\" are lines of a configuration
file, or explain. A problem means that reservations do not work or do not
protect the data, a warning that they can fail later. docs/doctor.md lists all
findings.

With a VM, findings about other virtual machines and their disks are omitted;
with a DISK (its path), those about other disks and machines without it. A
machine that libvirt has defined need not run.

Changes nothing, and sends nothing to a disk, but helpers check paths that may
not be registered when their state is read. Run it as root: what cannot be read
is listed as not checked.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl doctor
  prhctl doctor web1
  prhctl --json doctor /dev/mapper/mpatha | jq -r '.findings[].id'

Exit status 0 if nothing was found, 36 if something was, 1 if no virtual
machine and no disk has the name.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Find what on this host would break reservations",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct DoctorArgs {
    /// Virtual machine or disk; all by default
    #[arg(value_name = "VM|DISK", add = completion::device())]
    name: Option<String>,
}

/// An error of the subcommand.
#[derive(Debug, Error)]
enum DoctorError {
    #[error("{0}: no virtual machine of this host and no block device has this name")]
    UnknownName(String),
}

impl AdvisedError for DoctorError {
    fn advice(&self) -> Vec<String> {
        let DoctorError::UnknownName(_) = self;
        vec!["Give the name of a machine (virsh list --all), or the path of a disk.".to_owned()]
    }
}

impl Subcommand for DoctorArgs {
    fn run(&self, context: &Context) -> Exit {
        if !geteuid().is_root() {
            let note = "not root: much cannot be checked, and is listed below";
            context.console.note(note);
        }
        match examine(&Host::this(), self.name.as_deref()) {
            Ok(results) => {
                let exit = match results.findings.is_empty() {
                    true => Exit::SUCCESS,
                    false => Exit::NEGATIVE,
                };
                context.print(&results, exit)
            }
            Err(error) => context.print_failure(&error.into()),
        }
    }

    fn uses_helper(&self) -> bool {
        false
    }
}

/// Runs all checks, and returns what they have found about the machine or disk with this name.
fn examine(host: &Host, name: Option<&str>) -> Result<Results, DoctorError> {
    let selected = name.map(|name| select(host, name)).transpose()?;
    let mut results = Results::collect(host, checks::all());
    if let Some(selected) = selected {
        results.retain(&selected);
    }
    Ok(results)
}

/// Returns the machine with this name and its disks, or the disk and the machines that have it.
fn select(host: &Host, name: &str) -> Result<Subject, DoctorError> {
    let disks = host.guest_disks();
    if host.vms.iter().any(|vm| vm.name == name) {
        let own = disks.iter().filter(|disk| disk.vm.name == name);
        return Ok(Subject {
            vms: vec![name.to_owned()],
            disks: own.map(|disk| disk.node.clone()).collect(),
        });
    }
    match host.device(Path::new(name)) {
        Some(device) => {
            let users = disks
                .iter()
                .filter(|disk| disk.device.as_ref() == Some(&device));
            Ok(Subject {
                vms: users.map(|disk| disk.vm.name.clone()).collect(),
                disks: vec![device.node()],
            })
        }
        None => Err(DoctorError::UnknownName(name.to_owned())),
    }
}
