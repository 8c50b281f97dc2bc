// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl exporter`: metrics of all helpers of this host for Prometheus.

mod durations;
mod families;
mod http;
mod metrics;
mod observer;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueHint};
use cli_messages::usage::parse_number;
use thiserror::Error;

use super::Subcommand;
use crate::completion;
use crate::context::Context;
use crate::error::AdvisedError;
use crate::exit::Exit;
use metrics::{Format, encode};
use observer::Observer;

/// Address that the exporter listens on by default. All ports from 9100 to 9999 are assigned to
/// other exporters.
const DEFAULT_ADDRESS: &str = "127.0.0.1:10837";

/// Maximum of `--interval` in seconds.
const MAX_INTERVAL: u64 = 86_400;

pub(crate) const HELP: &str = "\
Serve metrics of all helpers of this host for Prometheus, at /metrics, or write
them to a file for the textfile collector of node_exporter.

Each time, the state of every helper is read from its state socket. No command
is sent to a disk, except that a helper checks paths of multipath maps that may
not be registered, every 10 seconds at most. The exporter needs no privileges
except to read the states: it runs as root or as the user of the helper, and
the packages contain the unit qemu-pr-helper-exporter.service for the latter.

The metrics begin with pr_helper_ and have the labels helper (its socket),
client (the virtual machine) and disk (the WWN, or else the device), where they
apply. docs/prhctl.md lists them. The packages contain alert rules and a
dashboard for Grafana.

The metrics name virtual machines and disks. They are not encrypted, and every
user who can connect can read them. --json applies to errors only.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl exporter
  prhctl exporter --listen [::]:10837
  prhctl exporter --textfile /var/lib/prometheus/node-exporter/pr_helper.prom

Exit status 0 after the file is written; otherwise the exporter runs until a
signal or an error ends it, the latter with status 1.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Serve metrics of all helpers for Prometheus",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ExporterArgs {
    /// Address to listen on
    #[arg(
        long, value_name = "ADDRESS:PORT", value_hint = ValueHint::Other,
        default_value = DEFAULT_ADDRESS, value_parser = parse_address
    )]
    listen: SocketAddr,
    /// Write the metrics to this file instead, and exit
    #[arg(long, value_name = "PATH", add = completion::file(), conflicts_with = "listen")]
    textfile: Option<PathBuf>,
    /// Write the file again and again, with this delay
    #[arg(
        long, value_name = "SECONDS", value_hint = ValueHint::Other, requires = "textfile",
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=MAX_INTERVAL)
    )]
    interval: Option<u64>,
}

impl Subcommand for ExporterArgs {
    fn run(&self, context: &Context) -> Exit {
        let result = match &self.textfile {
            Some(path) => write_files(path, self.interval, Observer::new(context.console)),
            None => self.serve(context),
        };
        match result {
            Ok(()) => Exit::SUCCESS,
            Err(error) => context.print_failure(&error.into()),
        }
    }

    fn uses_helper(&self) -> bool {
        false
    }
}

impl ExporterArgs {
    /// Serves until an error occurs.
    fn serve(&self, context: &Context) -> Result<(), ExporterError> {
        let listen = |source| ExporterError::Listen {
            address: self.listen,
            source,
        };
        let listener = TcpListener::bind(self.listen).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let console = context.console;
        console.note(&format!("serving metrics at http://{address}/metrics"));
        Err(http::serve(listener, Observer::new(console)).into())
    }
}

/// An error of the exporter.
#[derive(Debug, Error)]
enum ExporterError {
    #[error("{address}: cannot listen")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot accept connections")]
    Accept(#[from] io::Error),
    #[error("{}: cannot write metrics", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl AdvisedError for ExporterError {
    fn advice(&self) -> Vec<String> {
        let line = match self {
            Self::Listen { .. } => {
                "Choose an address of this host and a port that no other process uses (ss -tlp) \
                 with --listen."
            }
            Self::Accept(_) => "Check the limits of open files and tasks of the exporter's unit.",
            Self::Write { .. } => {
                "The file is replaced by renaming another one in the same directory, so the \
                 exporter must be permitted to write to that directory."
            }
        };
        vec![line.to_owned()]
    }
}

/// A value that is not an address and a port.
#[derive(Debug, Error)]
#[error("not a numeric address and a port, such as {DEFAULT_ADDRESS} or [::1]:10837")]
struct AddressError;

fn parse_address(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| AddressError)
}

/// Writes the metrics once or, with an interval in seconds, until an error occurs.
fn write_files(
    path: &Path,
    interval: Option<u64>,
    mut observer: Observer,
) -> Result<(), ExporterError> {
    loop {
        let text = encode(&observer.read(), Format::Prometheus).map_err(io::Error::other);
        let written = text.and_then(|text| replace(path, &text));
        written.map_err(|source| ExporterError::Write {
            path: path.to_owned(),
            source,
        })?;
        match interval {
            Some(seconds) => thread::sleep(Duration::from_secs(seconds)),
            None => return Ok(()),
        }
    }
}

/// Replaces a file, so that readers see the old or the new contents. The temporary file does not
/// end with `.prom`, so `node_exporter` ignores it. Other files, such as the link `/dev/stdout`,
/// remain.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|file| !file.is_file()) {
        return Err(io::Error::other("not a regular file"));
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}
