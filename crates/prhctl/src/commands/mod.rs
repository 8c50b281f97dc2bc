// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subcommands: arguments, help, what each one does, and its result.

/// Appends the side effect of a query to its help.
macro_rules! query_help {
    ($text:literal) => {
        concat!(
            $text,
            "

Queries have a side effect: a pending unit attention on this path goes to whichever
command arrives first, and only once. If a guest on this host uses the disk through
the same path, the guest misses it. Query through another path or from another host.
'prhctl lun show' inspects a soft LUN without sending a command to it."
        )
    };
}

pub(crate) mod capabilities;
pub(crate) mod change;
pub(crate) mod clear;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod keys;
pub(crate) mod lun;
#[path = "move.rs"]
pub(crate) mod move_reservation;
pub(crate) mod preempt;
pub(crate) mod register;
pub(crate) mod release;
pub(crate) mod reservation;
pub(crate) mod reserve;
pub(crate) mod status;

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use pr_helper_protocol::Direction;
use scsi_pr::ReservationKey;

use crate::console::Console;
use crate::error::{Error, Failure};
use crate::helper::{DeviceResult, HelperConnection};
use crate::labels;

/// The device that a subcommand is for.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Path of the disk
    #[arg(value_name = "DEVICE", value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
}

/// The device, and the sender's key.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Key that this initiator port is registered with
    #[arg(long, value_name = "KEY", value_parser = labels::parse_nonzero_key)]
    pub(crate) key: ReservationKey,
}

/// Runs a subcommand that only queries the device.
pub(crate) fn run_query<T>(
    args: &DeviceArgs,
    socket: &Path,
    console: Console,
    query: impl FnOnce(&mut HelperConnection<'_>) -> Result<T, Error>,
) -> Result<DeviceResult<T>, Failure> {
    let mut helper = HelperConnection::open(socket, &args.path, Direction::In, console)?;
    let result = query(&mut helper);
    helper.finish(result)
}
