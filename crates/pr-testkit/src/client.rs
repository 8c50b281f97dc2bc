// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client that can break the protocol.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pr_helper_protocol::wire::{FEATURES_SIZE, RESPONSE_SIZE};
use pr_helper_protocol::{Response, fd_passing};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use scsi_pr::Status;

use crate::TEST_TIMEOUT;
use crate::cdb::{self, PrCommand};

/// Opens `/dev/null`: a device that rejects every command at once.
#[must_use]
pub fn null() -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open("/dev/null").unwrap()
}

/// A connection to a helper.
#[derive(Debug)]
pub struct TestClient {
    /// Socket of the connection.
    pub stream: UnixStream,
}

impl TestClient {
    /// Connects to the socket `path`.
    #[track_caller]
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        Self::try_connect(path).unwrap()
    }

    /// Connects to the socket `path`. Fails if no helper listens there.
    pub fn try_connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        // A client that is not served fails the test.
        stream.set_read_timeout(Some(TEST_TIMEOUT))?;
        stream.set_write_timeout(Some(TEST_TIMEOUT))?;
        Ok(Self { stream })
    }

    /// Completes the handshake.
    #[track_caller]
    #[must_use]
    pub fn handshake(mut self) -> Self {
        self.try_handshake().unwrap();
        self
    }

    /// Completes the handshake. Fails if the helper closes the connection.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        self.receive_greeting()?;
        self.stream.write_all(&[0; FEATURES_SIZE])
    }

    /// Receives the greeting, without answering it.
    pub fn receive_greeting(&mut self) -> io::Result<()> {
        self.stream.read_exact(&mut [0; FEATURES_SIZE])
    }

    /// Receives the greeting if it has arrived.
    pub fn try_receive_greeting(&mut self) -> Option<()> {
        self.stream.set_nonblocking(true).unwrap();
        let received = self.receive_greeting();
        self.stream.set_nonblocking(false).unwrap();
        received.ok()
    }

    /// Sends bytes, and a descriptor with the first byte.
    pub fn send(&mut self, bytes: &[u8], device: BorrowedFd<'_>) {
        fd_passing::send(self.stream.as_fd(), bytes, device).unwrap();
    }

    /// Sends bytes, and a descriptor with the first byte. Fails if the connection is closed.
    pub fn try_send_with(&mut self, bytes: &[u8], device: BorrowedFd<'_>) -> io::Result<()> {
        fd_passing::send(self.stream.as_fd(), bytes, device)
    }

    /// Sends bytes and descriptors in one message.
    pub fn send_fds(&self, bytes: &[u8], devices: &[BorrowedFd<'_>]) {
        self.try_send_fds(bytes, devices).unwrap();
    }

    /// Sends bytes and descriptors in one message. Fails if the connection is closed.
    pub fn try_send_fds(&self, bytes: &[u8], devices: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = vec![MaybeUninit::uninit(); 4096];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(devices)));
        let bytes = [IoSlice::new(bytes)];
        sendmsg(&self.stream, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends bytes without a descriptor. Fails if the connection is closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a command for `device` and receives the response.
    #[track_caller]
    pub fn execute(&mut self, command: &PrCommand, device: impl AsFd) -> Response {
        self.try_execute(command, device).unwrap()
    }

    /// Sends a command for `device` and receives the response. Fails if the connection is closed.
    pub fn try_execute(&mut self, command: &PrCommand, device: impl AsFd) -> io::Result<Response> {
        self.try_send_with(&command.cdb, device.as_fd())?;
        self.try_send(&command.parameter_list)?;
        self.receive()
    }

    /// Receives a response with its data.
    pub fn receive(&mut self) -> io::Result<Response> {
        let mut head = [0; RESPONSE_SIZE];
        self.stream.read_exact(&mut head)?;
        let [_, _, _, status, a, b, c, d, sense @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data)?;
        Ok(Response {
            status: Status(status),
            sense,
            data,
        })
    }

    /// Checks that the helper executes commands of this client.
    #[track_caller]
    pub fn assert_served(&mut self) {
        for command in [cdb::read_keys(8), cdb::register(0, 0)] {
            let status = self.execute(&command, null()).status;
            assert_eq!(status, Status::CHECK_CONDITION);
        }
    }

    /// Disconnects, and waits until the helper has closed the connection.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self.assert_closed();
    }

    /// Checks that nothing arrives from the helper for `period`.
    #[track_caller]
    pub fn assert_silent_for(&mut self, period: Duration) {
        self.stream.set_read_timeout(Some(period)).unwrap();
        // A read with a timeout is interrupted if the host suspends this process.
        let received = loop {
            match self.stream.read(&mut [0]).map_err(|error| error.kind()) {
                Err(io::ErrorKind::Interrupted) => {}
                received => break received,
            }
        };
        assert_eq!(received, Err(io::ErrorKind::WouldBlock));
        self.stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    }

    /// Waits until the helper has closed the connection, without a reply.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            // The helper has not read all bytes.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}
