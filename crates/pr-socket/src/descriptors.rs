//! `recvmsg` and `sendmsg` with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The descriptors that came with some bytes.
#[derive(Debug)]
pub enum Descriptors {
    /// None.
    None,
    /// One, as the protocol wants it. It is close-on-exec.
    One(OwnedFd),
    /// More than one. They are closed already.
    Several,
    /// At least one was sent, and the kernel could not install any in this process.
    Lost,
}

/// Reads what is there, up to `buffer`'s length, without blocking.
///
/// # Errors
///
/// That of recvmsg(2); `WouldBlock` if nothing is there yet.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Descriptors)> {
    // Room for two, so that a second one is seen. The kernel itself closes what finds no room.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        flags,
    )?;

    let mut received = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = received.by_ref().flatten();
    let cut = message.flags.contains(ReturnFlags::CTRUNC);
    let descriptors = match (descriptors.next(), descriptors.next()) {
        (None, _) if cut => Descriptors::Lost,
        (None, _) => Descriptors::None,
        (Some(_), None) if cut => Descriptors::Several,
        (Some(descriptor), None) => Descriptors::One(descriptor),
        (Some(_), Some(_)) => Descriptors::Several,
    };
    Ok((message.bytes, descriptors))
}

/// Sends all of `bytes`, and `descriptor` with the first of them. Blocks as the socket does.
///
/// # Errors
///
/// That of sendmsg(2).
pub fn send(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    while !bytes.is_empty() {
        let sent = sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        bytes = bytes.get(sent..).unwrap_or_default();
        ancillary.clear();
    }
    Ok(())
}
