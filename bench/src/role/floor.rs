// SPDX-License-Identifier: MIT OR Apache-2.0

//! The floor: a server that does only what every server of the protocol must do for a request.
//!
//! A thread for each connection blocks in `recvmsg`, reads the parameter list of a PERSISTENT
//! RESERVE OUT command, sends the command to the device, closes the device and writes the response.
//! It checks nothing and has no buffer for data, because `/dev/null` returns none. It is not a
//! usable helper; the distance between it and our helper is the cost of safety.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use linux_util::sg_io::{Data, sg_io};
use pr_helper_protocol::wire::{CDB_SIZE, FEATURES_SIZE, Features, RESPONSE_SIZE, SENSE_SIZE};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use scsi_pr::{PERSISTENT_RESERVE_OUT, Status};

/// Stack size of a thread. Only touched pages use memory.
const STACK_SIZE: usize = 64 * 1024;

/// Length of the parameter list that the load sends, in bytes.
const PARAMETER_LIST_SIZE: usize = 24;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `bench-floor`.
#[derive(Args)]
pub(crate) struct Floor {
    /// Path of the listening socket
    #[arg(long)]
    socket: PathBuf,
}

impl Floor {
    pub(super) fn run(&self) -> Result<()> {
        let listener = UnixListener::bind(&self.socket).context("cannot listen")?;
        loop {
            let (socket, _) = listener.accept().context("cannot accept a client")?;
            thread::Builder::new()
                .stack_size(STACK_SIZE)
                // Any error means that the client has disconnected.
                .spawn(|| serve(socket).unwrap_or_default())
                .context("cannot spawn a thread")?;
        }
    }
}

fn serve(mut socket: UnixStream) -> io::Result<()> {
    socket.write_all(&Features::NONE.encode())?;
    socket.read_exact(&mut [0; FEATURES_SIZE])?;
    let mut cdb = [0; CDB_SIZE];
    let mut parameter_list = [0; PARAMETER_LIST_SIZE];
    let mut response = [0; RESPONSE_SIZE];
    while let Some(device) = receive(&socket, &mut cdb)? {
        let data = if cdb[0] == PERSISTENT_RESERVE_OUT {
            socket.read_exact(&mut parameter_list)?;
            Data::ToDevice(&parameter_list)
        } else {
            Data::None
        };
        let sense = &mut response[RESPONSE_SIZE - SENSE_SIZE..];
        let status = match sg_io(device.as_fd(), &cdb, data, sense, TIMEOUT) {
            Ok(completion) => completion.status,
            Err(_) => Status::CHECK_CONDITION.0,
        };
        drop(device);
        response[..4].copy_from_slice(&u32::from(status).to_be_bytes());
        socket.write_all(&response)?;
    }
    Ok(())
}

/// Receives a CDB and its device; `None` if the client has disconnected.
fn receive(socket: &UnixStream, cdb: &mut [u8; CDB_SIZE]) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(cdb)];
    recvmsg(
        socket,
        &mut buffers,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let device = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}
