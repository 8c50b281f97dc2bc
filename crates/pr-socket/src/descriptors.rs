//! `recvmsg` and `sendmsg` with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most that the kernel passes with one message (`SCM_MAX_FD` of `include/net/scm.h`). With room for
/// fewer it would close the others by itself, in the thread that reads.
const MOST_DESCRIPTORS: usize = 253;

/// The descriptors that came with some bytes.
#[derive(Debug)]
pub enum Descriptors {
    /// None.
    None,
    /// One, as the protocol wants it. It is close-on-exec.
    One(OwnedFd),
    /// More than one. Those that the kernel delivered are here, as far as there was room.
    Several(Vec<OwnedFd>),
    /// At least one was sent, and the kernel did not give any to this process.
    Lost,
}

/// Reads what is there, up to `buffer`'s length, without blocking. Closes nothing: to close somebody
/// else's descriptor can block.
///
/// # Errors
///
/// That of recvmsg(2); `WouldBlock` if nothing is there yet.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Descriptors)> {
    receive_with(socket, buffer, RecvFlags::DONTWAIT)
}

/// As [`receive`], but where nothing is there it waits as long as the socket does (`SO_RCVTIMEO`,
/// `O_NONBLOCK`).
///
/// # Errors
///
/// That of recvmsg(2); `WouldBlock` if nothing has come.
pub fn await_and_receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Descriptors)> {
    receive_with(socket, buffer, RecvFlags::empty())
}

fn receive_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Descriptors)> {
    // The credentials come first if whoever made the listening socket asked for them.
    const SPACE: usize = rustix::cmsg_space!(ScmCredentials(1), ScmRights(MOST_DESCRIPTORS));
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        flags | RecvFlags::CMSG_CLOEXEC,
    )?;

    let mut received = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    // The kernel puts all descriptors of one read into one message.
    let mut descriptors = received.next().into_iter().flatten();
    let is_cut = message.flags.contains(ReturnFlags::CTRUNC);
    let descriptors = match (descriptors.next(), descriptors.next()) {
        (None, _) if is_cut => Descriptors::Lost,
        (None, _) => Descriptors::None,
        (Some(only), None) if !is_cut => Descriptors::One(only),
        (Some(first), second) => Descriptors::Several(
            [first]
                .into_iter()
                .chain(second)
                .chain(descriptors)
                .collect(),
        ),
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
