//! The suite's own client of the helper protocol, able to send what no honest client would.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// How long anything may take before it counts as never. Emulated machines are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The most descriptors that a case sends in one message.
const DESCRIPTORS: usize = 32;

/// A command descriptor block as it travels.
pub(crate) type Cdb = [u8; 16];

/// PERSISTENT RESERVE IN.
pub(crate) fn pr_in(action: u8, allocation: u16) -> Cdb {
    let [high, low] = allocation.to_be_bytes();
    let mut cdb = [0; 16];
    cdb[0] = 0x5e;
    cdb[1] = action;
    cdb[7] = high;
    cdb[8] = low;
    cdb
}

/// PERSISTENT RESERVE OUT.
pub(crate) fn pr_out(action: u8, scope_and_type: u8, length: u16) -> Cdb {
    let mut cdb = pr_in(action, length);
    cdb[0] = 0x5f;
    cdb[2] = scope_and_type;
    cdb
}

/// What the helper says to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) sense: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Answer {
    /// Sense key, additional sense code and its qualifier, of either sense format.
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
    /// Connects, and neither reads nor writes.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream })
    }

    /// Reads the helper's features and offers none in return.
    pub(crate) fn handshake(&mut self) -> Result<()> {
        let features = self.receive(4)?;
        ensure!(features == [0; 4], "the helper offers {features:02x?}");
        self.send(&[0; 4])
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        self.send_with(bytes, &[])
    }

    /// Sends all of `bytes`, the descriptors with the first of them.
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

    /// Sends what fits at once.
    pub(crate) fn send_some(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for a message"));
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

    /// The next answer of the helper.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let status = self.receive_u32()?;
        let size = usize::try_from(self.receive_u32()?)?;
        let sense = self.receive(96)?;
        ensure!(size <= 8192, "the helper announces {size} bytes of data");
        let data = self.receive(size)?;
        Ok(Answer {
            status,
            sense,
            data,
        })
    }

    /// Sends a command as QEMU does, and returns the answer to it.
    pub(crate) fn command(
        &mut self,
        cdb: &Cdb,
        parameters: &[u8],
        device: impl AsFd,
    ) -> Result<Answer> {
        self.send_with(cdb, &[device.as_fd()])?;
        self.send(parameters)?;
        self.answer()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Waits until the helper has closed the connection without another byte.
    pub(crate) fn closed(&mut self) -> Result<()> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("the helper sent {byte:02x?} and did not close the connection"),
            // It closed with bytes of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error).context("waiting for the connection to be closed"),
        }
    }

    fn receive_u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.stream
            .read_exact(&mut bytes)
            .context("waiting for an answer")?;
        Ok(u32::from_be_bytes(bytes))
    }
}

impl From<UnixStream> for Client {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}
