// SPDX-License-Identifier: MIT OR Apache-2.0

//! Passing of file descriptors over Unix sockets (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Maximum number of descriptors in one message (`SCM_MAX_FD` in `include/net/scm.h`).
const SCM_MAX_FD: usize = 253;

/// Size in bytes of a control buffer for one message with [`SCM_MAX_FD`] descriptors.
const MAX_CONTROL: usize = rustix::cmsg_space!(ScmRights(SCM_MAX_FD));

/// Size in bytes of a control buffer for exactly two descriptors: a `struct cmsghdr` (length,
/// level, type) and two descriptor numbers. Two descriptors are enough to detect a violation,
/// because the protocol allows one.
const SMALL_CONTROL: usize = size_of::<usize>() + 4 * size_of::<i32>();

/// A control buffer with the alignment of a header: rustix skips the bytes before the first aligned
/// address, which would shorten an unaligned buffer.
#[repr(align(8))]
struct ControlBuffer([MaybeUninit<u8>; MAX_CONTROL]);

/// The blocking behavior of [`receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Returns immediately and delivers all descriptors of a message, up to 253. Nothing is closed
    /// within the call, because a close can block.
    NeverBlock,
    /// Does not wait for data. Delivers at most two descriptors; the kernel closes any others
    /// within the call, which can block.
    NoWait,
    /// Like [`ReceiveMode::NoWait`], but waits for data as the socket's `SO_RCVTIMEO` and
    /// `O_NONBLOCK` say.
    Wait,
}

/// The descriptors received with some bytes. All are close-on-exec.
#[derive(Debug)]
pub enum ReceivedFds {
    /// No descriptor was sent.
    None,
    /// Exactly one descriptor was sent, as the protocol requires.
    One(OwnedFd),
    /// More than one descriptor was sent. Contains those that the kernel delivered.
    Many(Vec<OwnedFd>),
    /// At least one descriptor was sent, but the kernel delivered none to this process.
    Truncated,
}

/// Reads at most `buffer.len()` bytes, and the descriptors sent with them. Returns the number of
/// bytes read: 0 at the end of the stream.
///
/// # Errors
///
/// Returns the error of recvmsg(2): `WouldBlock` if no data has arrived.
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
    let mut control = ControlBuffer([MaybeUninit::uninit(); MAX_CONTROL]);
    let mut ancillary = RecvAncillaryBuffer::new(control.0.get_mut(..size).unwrap_or_default());
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        flags | RecvFlags::CMSG_CLOEXEC,
    )?;

    // The kernel delivers all descriptors of one read in one control message.
    let mut fds = ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .into_iter()
        .flatten();
    let is_truncated = message.flags.contains(ReturnFlags::CTRUNC);
    let fds = match (fds.next(), fds.next()) {
        (None, _) if is_truncated => ReceivedFds::Truncated,
        (None, _) => ReceivedFds::None,
        (Some(fd), None) if !is_truncated => ReceivedFds::One(fd),
        (Some(first), second) => {
            ReceivedFds::Many([first].into_iter().chain(second).chain(fds).collect())
        }
    };
    Ok((message.bytes, fds))
}

/// Sends all of `bytes`, with `fd` attached to the first of them. Blocks if the socket does.
///
/// # Errors
///
/// Returns the error of sendmsg(2).
pub fn send(socket: BorrowedFd<'_>, mut bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    while !bytes.is_empty() {
        let message = [IoSlice::new(bytes)];
        let sent = sendmsg(socket, &message, &mut ancillary, SendFlags::NOSIGNAL)?;
        bytes = bytes.get(sent..).unwrap_or_default();
        ancillary.clear();
    }
    Ok(())
}
