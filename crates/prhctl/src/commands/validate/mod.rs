// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl validate`: checks whether a disk does what cluster software needs.
//!
//! ```text
//! mod → preflight → nodes → helper
//!  ↓       runner → steps → session → nodes
//! report → meaning
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `preflight` | what must be the case before anything is registered |
//! | `nodes` | the connections, and the removal of all registrations |
//! | `session` | commands and checks for steps |
//! | `profile` | the lists of steps |
//! | `steps` | the steps; a new one is an entry in a list there, and a row of `meaning` |
//! | `runner` | executes the steps, and decides on the verdicts |
//! | `meaning`, `known_differences` | explanations of failed steps |
//! | `report`, `html` | text and JSON, and an HTML page |

mod access;
mod command;
mod html;
mod keys;
mod known_differences;
mod meaning;
mod nodes;
mod preflight;
mod profile;
mod report;
mod runner;
mod session;
mod steps;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use scsi_pr::{InServiceAction, ReservationKey};
use thiserror::Error;

use super::Subcommand;
use crate::block_device::Part;
use crate::cleanup::CleanupGuard;
use crate::completion;
use crate::confirmation::ConfirmationArgs;
use crate::context::{Context, DeviceArgs};
use crate::error::{AdvisedError, Failure};
use crate::exit::Exit;
use crate::helper::HelperOptions;
use crate::labels;
use command::Answer;
use keys::RunNumber;
use nodes::{Node, Nodes};
use profile::Profile;
use runner::Row;
use session::{Environment, Session};

/// Maximum number of devices.
const MAX_NODES: usize = 2;

pub(crate) const HELP: &str = "\
Check whether a disk does what cluster software needs, through the helper.

prhctl acts like the nodes of a cluster, step by step: it registers, reserves,
is rejected, preempts, clears, and compares each answer and the state of the
disk with SPC-4. Each DEVICE is one node: A, and with a second one B. They must
be two I_T nexuses of one disk: two paths (/dev/sda and /dev/sdb), or two ports
of a soft LUN. With one DEVICE, the steps that need two are not tested.

Use a disk without data: while it is reserved, reads and writes of others fail.
prhctl refuses a disk with registrations, seen through either DEVICE, one that
a process has open, that is mounted or part of a volume, partitions, volumes,
and two DEVICEs of different disks. On a terminal, it asks for confirmation
first, unless --yes is given.

At the end, and after an error, Ctrl-C or SIGTERM, prhctl removes its
registrations. Their keys begin with 0x70726876 (\"prhv\"). After SIGKILL they
remain, and the next run removes them. A disk must not be checked by two runs
at the same time. If another program registers during the run, prhctl stops.

--profile selects the commands of one cluster software. If the default passes,
they all work; the profile shows whether a deviation concerns the software.

Each failed step is explained: what it means for Windows clusters, fence_scsi,
fence_mpath and LVM, and what to do. A step fails only if the disk deviates
from SPC-4. Deviations of LIO, the SCSI target of Linux, that
docs/lio-differences.md lists are known differences. A command that takes more
than a second is a warning.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl validate /dev/sdb /dev/sdc
  prhctl validate --write --yes /dev/sdb /dev/sdc
  prhctl validate --profile wsfc /dev/sdb /dev/sdc
  prhctl -k /run/pr.sock --json validate luns/lun/ports/a luns/lun/ports/b

Exit status 0 if no step failed and one passed, 36 if a step failed or none
passed, 1 if the disk was refused or an error ended the run, such as
registrations that it cannot remove or that another program has added; 97
after malformed data before the first step; 128 plus the signal number after a
signal.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Check whether a disk does what cluster software needs",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[arg(
        long, value_name = "PROFILE", value_enum, default_value_t = Profile::Spc4,
        hide_possible_values = true,
        help = "Steps: spc4, wsfc, fence_scsi, fence_mpath or\nlvm",
        long_help = "Steps: the rules of the standard (spc4), or the commands of Windows\n\
                     clusters (wsfc), fence_scsi, fence_mpath or LVM (lvm)"
    )]
    profile: Profile,
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_nonzero_key, allow_negative_numbers = true,
        help = "First remove all registrations, if all have this key",
        long_help = "First remove all registrations with CLEAR, if all have this key.\n\
                     They are not restored"
    )]
    force_key: Option<ReservationKey>,
    #[arg(
        long,
        help = "Also read and write blocks, if the disk is empty",
        long_help = "Also read the first block, and write zeros to it, to check which\n\
                     nodes may read and write. The first and the last MiB of the disk\n\
                     must contain only zeros"
    )]
    write: bool,
    #[arg(
        long, value_name = "FILE", add = completion::file(),
        help = "Also write the report to an HTML file",
        long_help = "Also write the report with all commands to an HTML file, which has no\n\
                     external resources. An existing file is replaced"
    )]
    html: Option<PathBuf>,
    #[command(flatten)]
    confirmation: ConfirmationArgs,
}

impl Subcommand for ValidateArgs {
    fn run(&self, context: &Context) -> Exit {
        match self.validate(context) {
            Ok(validation) => {
                let exit = match validation.has_passed() {
                    true => Exit::SUCCESS,
                    false => Exit::NEGATIVE,
                };
                let exit = context.print(&validation, exit);
                if let Err(error) = self.write_html(&validation) {
                    context.print_error(&error);
                    return error.exit();
                }
                match &validation.error {
                    Some(failure) => {
                        context.print_error(failure.error.as_ref());
                        failure.error.exit()
                    }
                    None => exit,
                }
            }
            Err(failure) => context.print_failure(&failure),
        }
    }
}

/// A validation that has ended.
#[derive(Debug)]
pub(crate) struct Validation {
    devices: Vec<PathBuf>,
    profile: Profile,
    run: RunNumber,
    rows: Vec<Row>,
    /// The error that aborted the validation.
    error: Option<Failure>,
}

impl Validation {
    /// Returns whether no step failed, and at least one passed.
    fn has_passed(&self) -> bool {
        let is_failed = self.rows.iter().any(|row| row.verdict.is_failure());
        let is_tested = self.rows.iter().any(|row| row.verdict.is_success());
        self.error.is_none() && is_tested && !is_failed
    }
}

/// The reason that a disk is not checked.
#[derive(Debug, Error)]
enum ValidateError {
    #[error("validate takes one or two devices, not {0}")]
    TooManyDevices(usize),
    #[error("{} and {} are the same device", .0.display(), .1.display())]
    SameDevice(PathBuf, PathBuf),
    #[error("{} and {} are different disks", .0.display(), .1.display())]
    DifferentDisks(PathBuf, PathBuf),
    #[error("{}: {}", device.display(), part.note())]
    Part { device: PathBuf, part: Part },
    #[error("{}: in use on this host", .0.display())]
    InUse(PathBuf),
    #[error("{}: cannot check whether the disk is in use", device.display())]
    UseUnknown { device: PathBuf, source: io::Error },
    #[error("{}: {users} has the disk open", device.display())]
    OpenElsewhere { device: PathBuf, users: String },
    #[error("{}: {action} ended with {answer}", device.display())]
    Query {
        device: PathBuf,
        action: InServiceAction,
        answer: Answer,
    },
    #[error("{}: the disk has registrations: {}", device.display(), join(keys))]
    Registered {
        device: PathBuf,
        keys: Vec<ReservationKey>,
    },
    #[error("{}: the disk is reserved, and reports no registration", .0.display())]
    Reserved(PathBuf),
    #[error("{}: registered by another program during the run: {}", device.display(), join(keys))]
    Appeared {
        device: PathBuf,
        keys: Vec<ReservationKey>,
    },
    #[error("{}: the disk did not remove the registrations of the run", .0.display())]
    NotRestored(PathBuf),
    #[error("{}: another run of validate uses the disk", .0.display())]
    OtherRun(PathBuf),
    #[error("{}: CLEAR did not remove all registrations", .0.display())]
    NotCleared(PathBuf),
    #[error("{}: not empty: {reason}", device.display())]
    NotEmpty { device: PathBuf, reason: String },
    #[error("{}: cannot read the disk", device.display())]
    Read { device: PathBuf, source: io::Error },
    #[error("{}: cannot write the report", path.display())]
    Html { path: PathBuf, source: io::Error },
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

fn join(keys: &[ReservationKey]) -> String {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    keys.join(", ")
}

impl AdvisedError for ValidateError {
    fn advice(&self) -> Vec<String> {
        let line = match self {
            ValidateError::SameDevice(..) => {
                "Give two paths of the disk, or one DEVICE for the steps that need one."
            }
            ValidateError::DifferentDisks(..) => {
                "Both must lead to one disk: give two paths of it, or two ports of one soft LUN."
            }
            ValidateError::UseUnknown { .. } => {
                "Use a disk whose device node can be opened. 'ls -l' shows whether the node exists."
            }
            ValidateError::InUse(_) => {
                "It is mounted, or a part of a volume, an array or swap. Use a disk without data."
            }
            ValidateError::OpenElsewhere { .. } => {
                "Use a disk that no virtual machine uses: its reads and writes would fail."
            }
            ValidateError::Reserved(_) => {
                "Use a disk that no cluster uses. 'prhctl reservation' shows the reservation."
            }
            ValidateError::Appeared { .. } => {
                "Use a disk that no cluster uses. A step may have removed registrations of this \
                 program: let it register again."
            }
            ValidateError::NotRestored(_) => {
                "No further steps were executed. 'prhctl status' shows what remains."
            }
            ValidateError::Registered { .. } => {
                "Use a disk that no cluster uses. If the only key is left over, '--force-key KEY' \
                 removes it first, and does not restore it."
            }
            ValidateError::OtherRun(_) => {
                "Its registrations changed within a second. Wait until that run has ended."
            }
            ValidateError::NotEmpty { .. } => {
                "Use an empty disk, or leave out --write. 'wipefs' and 'blkdiscard' remove data."
            }
            _ => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}

impl ValidateArgs {
    /// Writes the HTML page, if the command line names a file.
    fn write_html(&self, validation: &Validation) -> Result<(), ValidateError> {
        let Some(path) = &self.html else {
            return Ok(());
        };
        fs::write(path, html::page(validation)).map_err(|source| ValidateError::Html {
            path: path.clone(),
            source,
        })
    }

    /// Checks the disk. A step that fails is a part of the result, not an error.
    fn validate(&self, context: &Context) -> Result<Validation, Failure> {
        let paths = &self.device.paths;
        preflight::check_devices(paths)?;
        let options = context.helper(&self.device.helper)?;
        let effect = "registers and reserves the disk again and again, so that reads and writes \
                      of others fail";
        self.confirmation.confirm(context.console, effect, paths)?;
        // The thread that waits for signals uses the connections until the process exits.
        let options: &'static HelperOptions = Box::leak(Box::new(options));
        let nodes = Nodes {
            all: Vec::new(),
            console: context.console,
        };
        // Install the guard before the first connection, which starts a thread.
        let guard = CleanupGuard::install(nodes).map_err(ValidateError::Signals)?;
        for path in paths {
            let path: &'static Path = Box::leak(path.clone().into_boxed_path());
            let node = Node::open(options, path)?;
            guard.resources().all.push(node);
        }
        let run = RunNumber::random();
        let environment = self.prepare(&guard, run)?;
        let mut session = Session::new(&guard, run, environment);
        let (rows, error) = runner::run(&mut session, self.profile.steps());
        Ok(Validation {
            devices: paths.clone(),
            profile: self.profile,
            run,
            rows,
            error,
        })
    }

    /// Makes sure that the disk may be checked, and returns its properties.
    fn prepare(&self, guard: &CleanupGuard<Nodes>, run: RunNumber) -> Result<Environment, Failure> {
        let mut environment = preflight::environment(&mut guard.resources())?;
        preflight::remove_registrations(guard, run, self.force_key)?;
        if self.write {
            environment.may_write = preflight::check_empty(&mut guard.resources())?;
        }
        Ok(environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_without_a_passed_step_has_not_passed() {
        let validation = Validation {
            devices: Vec::new(),
            profile: Profile::Spc4,
            run: RunNumber::random(),
            rows: Vec::new(),
            error: None,
        };
        assert!(!validation.has_passed());
    }
}
