//! `recvmsg` and `sendmsg` with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The number of descriptors that the kernel passes with one message (`SCM_MAX_FD` in
/// `include/net/scm.h`).
const SCM_MAX_FD: usize = 253;

/// Bytes of the control buffer for one message with as many descriptors as the kernel passes.
const MAX_CONTROL: usize = rustix::cmsg_space!(ScmRights(SCM_MAX_FD));

/// Bytes of the control buffer for exactly two descriptors: a header (`struct cmsghdr`: a length, a
/// level, a type) and two numbers. One more than the protocol allows is enough to recognise a
/// violation.
const SMALL_CONTROL: usize = size_of::<usize>() + 4 * size_of::<i32>();

/// A control buffer, aligned so that none of it is lost to padding: rustix skips bytes up to the
/// alignment of a header.
#[repr(align(8))]
struct Control([MaybeUninit<u8>; MAX_CONTROL]);

/// How to read from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Returns at once, and never closes a descriptor, because a close can block: takes all
    /// descriptors that the peer sent with one message, up to 253.
    NeverBlock,
    /// Does not wait for data. Takes two descriptors at most; the kernel closes any others within
    /// the call, which can block.
    NoWait,
    /// As [`ReceiveMode::NoWait`], but waits for data as long as the socket does (`SO_RCVTIMEO`,
    /// `O_NONBLOCK`).
    Wait,
}

/// The descriptors that came with some bytes.
#[derive(Debug)]
pub enum ReceivedFds {
    /// None.
    None,
    /// One, as the protocol wants it. It is close-on-exec.
    One(OwnedFd),
    /// More than one. Those that the kernel delivered are here, as far as there was room.
    Many(Vec<OwnedFd>),
    /// At least one was sent, and the kernel did not give any to this process.
    Truncated,
}

/// Reads what has arrived, up to `buffer`'s length, and the descriptors that came with it.
///
/// # Errors
///
/// Returns the error of recvmsg(2); `WouldBlock` if no data has arrived.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    mode: ReceiveMode,
) -> io::Result<(usize, ReceivedFds)> {
    let (size, flags) = match mode {
        ReceiveMode::NeverBlock => (MAX_CONTROL, RecvFlags::DONTWAIT),
        ReceiveMode::NoWait => (SMALL_CONTROL, RecvFlags::DONTWAIT),
        ReceiveMode::Wait => (SMALL_CONTROL, RecvFlags::empty()),
    };
    let mut control = Control([MaybeUninit::uninit(); MAX_CONTROL]);
    let space = control.0.get_mut(..size).unwrap_or_default();
    let mut ancillary = RecvAncillaryBuffer::new(space);
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
        (None, _) if is_cut => ReceivedFds::Truncated,
        (None, _) => ReceivedFds::None,
        (Some(only), None) if !is_cut => ReceivedFds::One(only),
        (Some(first), second) => ReceivedFds::Many(
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
