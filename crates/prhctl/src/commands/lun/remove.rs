// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl lun remove`: arguments and help, and the removal of a soft LUN.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use soft_lun::store::{Lun, StoreError};
use thiserror::Error;

use super::lun_status;
use crate::console::{BOLD, escape_path};
use crate::error::AdvisedError;
use crate::output::json::{Json, ToJson, object};
use crate::output::text::ToText;

pub(super) const HELP: &str = "\
Remove a soft LUN with its files.

A soft LUN with registrations is removed only with --force. Commands of clients
that have a port open fail afterwards.";
pub(super) const EXAMPLES: &str = "\
EXAMPLES
  prhctl lun remove luns/shared0

Exit status 0, or 1 if the soft LUN has registrations or cannot be removed.";

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Directory of the soft LUN
    #[arg(value_name = "PATH", value_hint = ValueHint::DirPath)]
    path: PathBuf,
    /// Remove it also if ports are registered
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Error)]
pub(super) enum RemoveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}: {ports} of its ports are registered", path.display())]
    Registered { path: PathBuf, ports: usize },
}

impl AdvisedError for RemoveError {
    fn advice(&self) -> Vec<String> {
        match self {
            RemoveError::Store(error) => error.advice(),
            RemoveError::Registered { path, .. } => vec![format!(
                "Use 'prhctl lun show {}' to see the registrations, or --force.",
                path.display()
            )],
        }
    }
}

/// A soft LUN that was removed.
#[derive(Debug)]
pub(super) struct Removed(PathBuf);

/// Runs `prhctl lun remove`.
pub(super) fn remove(args: &RemoveArgs) -> Result<Removed, RemoveError> {
    let lun = Lun::open(&args.path)?;
    if !args.force {
        let status = lun_status(&lun)?;
        let ports = status
            .ports
            .iter()
            .filter(|port| port.key.is_some())
            .count();
        if ports > 0 {
            return Err(RemoveError::Registered {
                path: args.path.clone(),
                ports,
            });
        }
    }
    lun.remove()?;
    Ok(Removed(args.path.clone()))
}

impl ToText for Removed {
    fn to_text(&self) -> String {
        format!("{BOLD}{}{BOLD:#}: removed\n", escape_path(&self.0))
    }
}

impl ToJson for Removed {
    fn to_json(&self) -> Json {
        object! { "path": self.0.as_path() }
    }
}
