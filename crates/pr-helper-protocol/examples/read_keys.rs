// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prints the reservation keys that are registered with a device, read through a running helper.
//!
//! ```text
//! cargo run --example read_keys -- /run/qemu-pr-helper.sock /dev/sdb
//! ```

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use pr_helper_protocol::Client;
use pr_helper_protocol::wire::{MAX_TRANSFER, pad_cdb};
use scsi_pr::{InServiceAction, Keys, PersistentReserveIn, Sense, Status};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(socket), Some(device)) = (args.next(), args.next()) else {
        bail!("usage: read_keys SOCKET DEVICE");
    };
    // The helper sends the command to the device that this descriptor refers to. Read access is
    // enough for PERSISTENT RESERVE IN.
    let device =
        File::open(&device).with_context(|| format!("cannot open {}", device.display()))?;
    let mut client = Client::connect(&socket)?;

    let command = PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        allocation_length: u16::try_from(MAX_TRANSFER)?,
        control: 0,
    };
    let response = client.execute(pad_cdb(&command.encode()), device.as_fd(), &[])?;
    match response.status {
        Status::GOOD => println!("{}", Keys::decode(&response.data)?),
        Status::CHECK_CONDITION => bail!("{command}: {}", Sense::decode(&response.sense)?),
        status => bail!("{command}: {status}"),
    }
    Ok(())
}
