//! The floor: the least that any server of this protocol must do for a request.
//!
//! A thread for each connection blocks in `recvmsg`, reads the parameter list of PERSISTENT RESERVE OUT if it is
//! one, asks the device, closes it and writes the answer. It checks nothing, and gives the kernel no room for
//! data, which `/dev/null` has none of. No helper could be like that; how far ours is from it is what its
//! safety costs.

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

/// Enough for what a thread does here; memory is only used as far as it is touched.
const STACK_SIZE: usize = 64 * 1024;

/// Bytes of the only parameter list that the load sends.
const LIST_SIZE: usize = 24;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of the floor.
#[derive(Args)]
pub(crate) struct Floor {
    /// Where to listen
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
                // However a client leaves, it has left.
                .spawn(|| serve(socket).unwrap_or_default())
                .context("cannot start a thread")?;
        }
    }
}

fn serve(mut socket: UnixStream) -> io::Result<()> {
    socket.write_all(&Features::NONE.encode())?;
    socket.read_exact(&mut [0; FEATURES_SIZE])?;
    let mut cdb = [0; CDB_SIZE];
    let mut list = [0; LIST_SIZE];
    let mut answer = [0; RESPONSE_SIZE];
    while let Some(device) = receive(&socket, &mut cdb)? {
        let data = if cdb[0] == PERSISTENT_RESERVE_OUT {
            socket.read_exact(&mut list)?;
            Data::ToDevice(&list)
        } else {
            Data::None
        };
        let sense = &mut answer[RESPONSE_SIZE - SENSE_SIZE..];
        let status = match sg_io(device.as_fd(), &cdb, data, sense, TIMEOUT) {
            Ok(completion) => completion.status,
            Err(_) => Status::CHECK_CONDITION.0,
        };
        drop(device);
        answer[..4].copy_from_slice(&u32::from(status).to_be_bytes());
        socket.write_all(&answer)?;
    }
    Ok(())
}

/// A CDB and its device; `None` when the client has left.
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
