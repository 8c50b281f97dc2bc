//! A client that can break the protocol.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use scsi_pr::Status;

use crate::helper::TEST_TIMEOUT;

/// READ KEYS, with an allocation length of 8 bytes.
pub(crate) const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
/// READ KEYS, with the largest allocation length.
pub(crate) const MAX_READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
/// REGISTER, with [`PARAMETERS`] bytes of parameters.
pub(crate) const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// Length of the parameters of [`REGISTER`].
pub(crate) const PARAMETERS: usize = 24;

/// Length of a greeting.
const GREETING: usize = 4;

/// Length of a reply without data.
const REPLY: usize = 104;

/// Opens `/dev/null`: a device that rejects every command at once.
pub(crate) fn null() -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open("/dev/null").unwrap()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client(pub(crate) UnixStream);

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        Self::try_connect(path).unwrap()
    }

    pub(crate) fn try_connect(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        // A client that is not served fails the test.
        socket.set_read_timeout(Some(TEST_TIMEOUT))?;
        socket.set_write_timeout(Some(TEST_TIMEOUT))?;
        Ok(Self(socket))
    }

    /// Completes the handshake.
    pub(crate) fn handshake(mut self) -> Self {
        self.try_handshake().unwrap();
        self
    }

    pub(crate) fn try_handshake(&mut self) -> io::Result<()> {
        self.receive_greeting()?;
        self.0.write_all(&[0; GREETING])
    }

    /// Receives the greeting, without answering it.
    pub(crate) fn receive_greeting(&mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0; GREETING])
    }

    /// Receives the greeting if it has arrived.
    pub(crate) fn try_receive_greeting(&mut self) -> Option<()> {
        self.0.set_nonblocking(true).unwrap();
        let received = self.receive_greeting();
        self.0.set_nonblocking(false).unwrap();
        received.ok()
    }

    /// Sends bytes, and a descriptor with the first byte.
    pub(crate) fn send(&mut self, bytes: &[u8], device: BorrowedFd<'_>) {
        fd_passing::send(self.0.as_fd(), bytes, device).unwrap();
    }

    /// Sends bytes, and a descriptor with the first byte. Fails if the connection is closed.
    pub(crate) fn try_send_with(&mut self, bytes: &[u8], device: BorrowedFd<'_>) -> io::Result<()> {
        fd_passing::send(self.0.as_fd(), bytes, device)
    }

    /// Sends bytes and descriptors in one message.
    pub(crate) fn send_fds(&self, bytes: &[u8], devices: &[BorrowedFd<'_>]) {
        self.try_send_fds(bytes, devices).unwrap();
    }

    /// Sends bytes and descriptors in one message. Fails if the connection is closed.
    pub(crate) fn try_send_fds(&self, bytes: &[u8], devices: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = vec![MaybeUninit::uninit(); 4096];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(devices)));
        let bytes = [IoSlice::new(bytes)];
        sendmsg(&self.0, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends bytes without a descriptor. Fails if the connection is closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends a command for `device` and returns the status. The parameters of PERSISTENT RESERVE
    /// OUT are zeros.
    pub(crate) fn try_request(&mut self, cdb: [u8; 16], device: &File) -> io::Result<Status> {
        let list: &[u8] = match cdb.first() == REGISTER.first() {
            true => &[0; PARAMETERS],
            false => &[],
        };
        self.try_request_with(cdb, list, device)
    }

    /// Sends a command with these parameters for `device` and returns the status.
    pub(crate) fn try_request_with(
        &mut self,
        cdb: [u8; 16],
        list: &[u8],
        device: &File,
    ) -> io::Result<Status> {
        fd_passing::send(self.0.as_fd(), &cdb, device.as_fd())?;
        if !list.is_empty() {
            self.0.write_all(list)?;
        }
        self.receive_status()
    }

    /// Receives a reply with its data, and returns the status.
    pub(crate) fn receive_status(&mut self) -> io::Result<Status> {
        let mut head = [0; REPLY];
        self.0.read_exact(&mut head)?;
        let [_, _, _, status, a, b, c, d, ..] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        self.0.read_exact(&mut vec![0; length])?;
        Ok(Status(status))
    }

    /// Checks that the helper executes commands of this client.
    #[track_caller]
    pub(crate) fn assert_served(&mut self) {
        for cdb in [READ_KEYS, REGISTER] {
            assert_eq!(
                self.try_request(cdb, &null()).unwrap(),
                Status::CHECK_CONDITION
            );
        }
    }

    /// Disconnects, and waits until the helper has closed the connection.
    pub(crate) fn disconnect(mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.assert_closed();
    }

    /// Checks that nothing arrives from the helper for `period`.
    #[track_caller]
    pub(crate) fn assert_silent_for(&mut self, period: Duration) {
        self.0.set_read_timeout(Some(period)).unwrap();
        // A read with a timeout is interrupted if the host suspends this process.
        let received = loop {
            match self.0.read(&mut [0]).map_err(|error| error.kind()) {
                Err(io::ErrorKind::Interrupted) => {}
                received => break received,
            }
        };
        assert_eq!(received, Err(io::ErrorKind::WouldBlock));
        self.0.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    }

    /// Waits until the helper has closed the connection, without a reply.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            // The helper has not read all bytes.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}
