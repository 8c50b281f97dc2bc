// SPDX-License-Identifier: MIT OR Apache-2.0

//! The suite's own protocol client, which can also violate the protocol.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Timeout of every operation. Emulated machines are slow.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of descriptors in one message.
const MAX_FDS: usize = 32;

/// A command descriptor block, padded to 16 bytes.
pub(crate) type Cdb = [u8; 16];

/// Returns a PERSISTENT RESERVE IN CDB.
pub(crate) fn pr_in(action: u8, allocation: u16) -> Cdb {
    let [high, low] = allocation.to_be_bytes();
    let mut cdb = [0; 16];
    cdb[0] = 0x5e;
    cdb[1] = action;
    cdb[7] = high;
    cdb[8] = low;
    cdb
}

/// Returns a PERSISTENT RESERVE OUT CDB.
pub(crate) fn pr_out(action: u8, scope_and_type: u8, length: u16) -> Cdb {
    let mut cdb = pr_in(action, length);
    cdb[0] = 0x5f;
    cdb[2] = scope_and_type;
    cdb
}

/// The helper's response to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u32,
    pub(crate) sense: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Response {
    /// Returns sense key, ASC and ASCQ of sense data in either format.
    pub(crate) fn sense_code(&self) -> (u8, u8, u8) {
        match self.sense[0] & 0x7f {
            0x72 | 0x73 => (self.sense[1] & 0xf, self.sense[2], self.sense[3]),
            _ => (self.sense[2] & 0xf, self.sense[12], self.sense[13]),
        }
    }
}

/// A connection to a helper.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects without a handshake.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream })
    }

    /// Receives the helper's features and requests none of them.
    pub(crate) fn handshake(&mut self) -> Result<()> {
        self.receive(4)?;
        self.send(&[0; 4])
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        self.send_with(bytes, &[])
    }

    /// Sends all of `bytes`, the descriptors with the first byte.
    pub(crate) fn send_with(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let mut rest = bytes;
        let mut descriptors = descriptors;
        while !rest.is_empty() {
            let sent = self.send_some(rest, descriptors, SendFlags::NOSIGNAL)?;
            rest = &rest[sent..];
            descriptors = &[];
        }
        Ok(())
    }

    /// Sends as much as possible with one call.
    pub(crate) fn send_some(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors in a message"));
        }
        let data = [IoSlice::new(bytes)];
        Ok(sendmsg(&self.stream, &data, &mut control, flags)?)
    }

    pub(crate) fn receive(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream
            .read_exact(&mut bytes)
            .with_context(|| format!("waiting for {length} bytes"))?;
        Ok(bytes)
    }

    /// Receives a response.
    pub(crate) fn receive_response(&mut self) -> Result<Response> {
        let status = self.receive_u32()?;
        let size = usize::try_from(self.receive_u32()?)?;
        let sense = self.receive(96)?;
        ensure!(size <= 8192, "the response announces {size} bytes of data");
        let data = self.receive(size)?;
        Ok(Response {
            status,
            sense,
            data,
        })
    }

    /// Sends a command like QEMU and returns its response.
    pub(crate) fn command(
        &mut self,
        cdb: &Cdb,
        parameters: &[u8],
        device: impl AsFd,
    ) -> Result<Response> {
        self.send_with(cdb, &[device.as_fd()])?;
        self.send(parameters)?;
        self.receive_response()
    }

    /// Shuts down the sending direction.
    pub(crate) fn finish(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Waits until the helper has closed the connection without sending another byte.
    pub(crate) fn expect_closed(&mut self) -> Result<()> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("the helper sent {byte:02x?} and did not close the connection"),
            // The helper closed the socket before it had read all data.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error).context("waiting for the connection to be closed"),
        }
    }

    fn receive_u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.stream
            .read_exact(&mut bytes)
            .context("waiting for a response")?;
        Ok(u32::from_be_bytes(bytes))
    }
}

impl From<UnixStream> for Client {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}
