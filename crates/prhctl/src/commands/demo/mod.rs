// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl demo`: a failover of two nodes that share a disk, through the real helper.
//!
//! The disk is a soft LUN in a temporary directory. Each node is a connection to a helper that the
//! demonstration starts, with a port of the disk open, like a virtual machine. Everything is
//! removed at the end, also after an error or a signal.

mod cleanup;
mod document;
mod helper_binary;
mod listing;
mod picture;
mod runner;
mod scenario;
mod setup;
mod view;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use clap::{Args, ValueHint};
use pr_helper_protocol::client::ClientError;
use soft_lun::store::StoreError;
use thiserror::Error;

use super::Subcommand;
use crate::context::Context;
use crate::error::AdvisedError;
use crate::exit::Exit;
use cleanup::{DemoGuard, Resources};
use helper_binary::SYSTEM_DIRS;
use setup::DemoSetup;
use view::View;

use runner::StepResult;

pub(crate) const HELP: &str = "\
Run a failover of two nodes through the helper, without hardware or root
access.

prhctl creates a soft LUN with two ports in a temporary directory, starts the
real helper on a socket there, and has two nodes act like cluster software:
both register, one reserves, the other is rejected, the holder fails, the
survivor preempts it, and the fenced node finds its key removed and its writes
rejected. At the end, or after a signal, prhctl removes everything.

On a terminal, prhctl runs one step per second. A terminal of at least 80 x 24
shows a picture of the nodes and the disk, in which each step marks its
changes. Without UTF-8 in the locale, the picture consists of ASCII characters.
With --fast, on smaller terminals, and if standard output is not a terminal,
each step is listed with its command, the response, and the changes of the
disk's state. A table of all steps follows.

The helper must be this project's, because QEMU's helper, which has the same
name, does not support soft LUNs. prhctl looks for qemu-pr-helper in its own
directory, in PATH, and in /usr/libexec, /usr/lib/qemu and /usr/bin, and skips
helpers without soft LUNs. Under 'cargo run', it builds the helper first. Use
--helper for a helper at another path.

The temporary directory is created in TMPDIR, or in /tmp if the path of TMPDIR
is too long for a socket.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl demo
  prhctl demo --step
  cargo run --release --bin prhctl -- demo
  prhctl demo --helper target/release/qemu-pr-helper

Exit status 0 if every response matched the standard, 1 otherwise; 128 plus the
signal number after a signal.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Run a failover of two nodes, without hardware or root access",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct DemoArgs {
    /// Helper binary [default: next to prhctl, or in PATH]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    helper: Option<PathBuf>,

    /// Wait for Enter after each step, if on a terminal
    #[arg(long, conflicts_with = "fast")]
    step: bool,

    /// List the steps without waiting
    #[arg(long)]
    fast: bool,
}

impl Subcommand for DemoArgs {
    /// Shows each step as soon as it is complete. JSON follows at the end.
    fn run(&self, context: &Context) -> Exit {
        let mut view = View::new(self, context.console);
        let show = |event: DemoEvent<'_>| {
            if !context.is_json {
                view.show(&event);
            }
        };
        let demonstration = match run(self, show) {
            Ok(demonstration) => demonstration,
            Err(error) => return context.print_failure(&error.into()),
        };
        let exit = match demonstration.passed() {
            true => Exit::SUCCESS,
            false => Exit::FAILURE,
        };
        let error = demonstration.error.as_ref();
        let error_text = error.map(|error| context.print_error(error));
        match (context.is_json, error_text) {
            (true, error_text) => {
                let document = document::document(&demonstration, error_text.as_ref());
                context.console.print(&document.pretty(), exit)
            }
            (false, None) => view.conclude(&demonstration, exit),
            (false, Some(_)) => exit,
        }
    }

    fn uses_helper(&self) -> bool {
        false
    }
}

/// The helper and the disk of a demonstration.
#[derive(Debug)]
pub(crate) struct DemoInfo {
    pub(crate) helper: PathBuf,
    pub(crate) helper_pid: u32,
    /// The directory of the soft LUN.
    pub(crate) lun: PathBuf,
}

/// A demonstration that has ended.
#[derive(Debug)]
pub(crate) struct Demonstration {
    pub(crate) info: DemoInfo,
    /// The steps, up to the first one with a mismatch.
    pub(crate) steps: Vec<StepResult>,
    /// The error that aborted the demonstration or its cleanup.
    pub(crate) error: Option<DemoError>,
}

impl Demonstration {
    /// Returns whether every step matched the standard and everything was removed.
    pub(crate) fn passed(&self) -> bool {
        self.error.is_none()
            && self.steps.len() == scenario::STEPS.len()
            && self.steps.iter().all(|step| step.mismatches.is_empty())
    }
}

/// Progress of a demonstration.
#[derive(Debug)]
pub(crate) enum DemoEvent<'a> {
    Started(&'a DemoInfo),
    /// The number of a step, from 1, and its result.
    Completed(usize, &'a StepResult),
}

/// Why a demonstration could not be run.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    #[error(
        "no qemu-pr-helper of this project in {}, in PATH, or in {}",
        own_dir.display(), SYSTEM_DIRS.join(", ")
    )]
    HelperNotFound {
        /// The directory of this program.
        own_dir: PathBuf,
        /// The first helper, which does not support soft LUNs.
        other: Option<PathBuf>,
    },
    #[error("cannot run cargo to build the helper")]
    Cargo(#[source] io::Error),
    #[error("cargo failed to build the helper: {0}")]
    Build(ExitStatus),
    #[error("cargo did not report the path of the helper binary")]
    NoBuildPath,
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("cannot create a temporary directory in {}", parent.display())]
    TempDir { parent: PathBuf, source: io::Error },
    #[error("cannot create or open {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lun(#[from] StoreError),
    #[error("cannot start {}", binary.display())]
    Start { binary: PathBuf, source: io::Error },
    #[error("the helper exited ({status}): {}", stderr.trim_end())]
    Exited { status: ExitStatus, stderr: String },
    #[error("the helper did not {0} within 20 seconds")]
    Timeout(&'static str),
    #[error("cannot send a command to the helper")]
    Send(#[source] ClientError),
    #[error("cannot stop the helper")]
    Stop(#[source] io::Error),
    #[error("{} was not removed", .0.display())]
    NotRemoved(PathBuf),
}

impl AdvisedError for DemoError {
    fn advice(&self) -> Vec<String> {
        let line = match self {
            DemoError::HelperNotFound { other, .. } => {
                let other = other.as_ref().map(|path| {
                    let path = path.display();
                    format!("{path} is another helper, such as QEMU's: it has no soft LUNs.")
                });
                let remedy = "Name the helper binary with --helper, or build and install it in the \
                              source directory: cargo install --locked --path \
                              crates/qemu-pr-helper.";
                return other.into_iter().chain([remedy.to_owned()]).collect();
            }
            DemoError::TempDir { .. } => {
                "Use another directory for temporary files: TMPDIR=PATH prhctl demo."
            }
            DemoError::Exited { stderr, .. } if stderr.contains("soft-luns") => {
                "Use this project's helper; other helpers do not support soft LUNs."
            }
            _ => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}

/// Runs the demonstration, and calls `notify` after its start and each step. A response that does
/// not match the standard is part of the result, not an error.
fn run(args: &DemoArgs, mut notify: impl FnMut(DemoEvent<'_>)) -> Result<Demonstration, DemoError> {
    // Install the guard before anything is created.
    let guard = DemoGuard::install(Resources::default()).map_err(DemoError::Signals)?;
    let helper = helper_binary::find(args.helper.as_deref(), guard.signal_mask())?;
    let mut setup = DemoSetup::create(&helper, &guard)?;
    let info = DemoInfo {
        helper,
        helper_pid: setup.helper_pid(),
        lun: setup.lun().path().to_owned(),
    };
    notify(DemoEvent::Started(&info));
    let mut steps: Vec<StepResult> = Vec::new();
    let result = runner::run(&mut setup, &scenario::STEPS, |step| {
        notify(DemoEvent::Completed(steps.len() + 1, &step));
        steps.push(step);
    });
    let error = result.and_then(|()| setup.teardown()).err();
    Ok(Demonstration { info, steps, error })
}
