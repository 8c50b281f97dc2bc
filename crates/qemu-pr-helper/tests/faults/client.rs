//! A helper's clients, who need not do what they should.

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

use crate::helper::PATIENCE;

/// READ KEYS, with room for eight bytes.
pub(crate) const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
/// READ KEYS, with the longest answer that there can be.
pub(crate) const LONGEST_READ_KEYS: [u8; 16] =
    [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
/// REGISTER, with as many bytes of parameters as it has.
pub(crate) const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// The parameters' length.
pub(crate) const PARAMETERS: usize = 24;

/// Bytes of a greeting, and of an answer without data.
const GREETING: usize = 4;
const ANSWER: usize = 104;

/// `/dev/null`: a device that answers every command at once, and refuses it.
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
        // Whoever is not served fails the test.
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// After the handshake.
    pub(crate) fn greeted(mut self) -> Self {
        self.try_greet().unwrap();
        self
    }

    pub(crate) fn try_greet(&mut self) -> io::Result<()> {
        self.hear_greeting()?;
        self.0.write_all(&[0; GREETING])
    }

    /// Does not answer it.
    pub(crate) fn hear_greeting(&mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0; GREETING])
    }

    /// Whether it has a greeting, which it takes.
    pub(crate) fn was_greeted(&mut self) -> Option<()> {
        self.0.set_nonblocking(true).unwrap();
        let heard = self.hear_greeting();
        self.0.set_nonblocking(false).unwrap();
        heard.ok()
    }

    /// Sends bytes, and a descriptor with the first of them.
    pub(crate) fn send(&mut self, bytes: &[u8], device: BorrowedFd<'_>) {
        fd_passing::send(self.0.as_fd(), bytes, device).unwrap();
    }

    /// The same. The connection may be closed.
    pub(crate) fn try_send_with(&mut self, bytes: &[u8], device: BorrowedFd<'_>) -> io::Result<()> {
        fd_passing::send(self.0.as_fd(), bytes, device)
    }

    /// Sends bytes, and descriptors in one message with them.
    pub(crate) fn send_many(&self, bytes: &[u8], devices: &[BorrowedFd<'_>]) {
        self.try_send_many(bytes, devices).unwrap();
    }

    /// The same. The connection may be closed.
    pub(crate) fn try_send_many(&self, bytes: &[u8], devices: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = vec![MaybeUninit::uninit(); 4096];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(devices)));
        let bytes = [IoSlice::new(bytes)];
        sendmsg(&self.0, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends bytes alone. Nobody may be there any more.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// The status of the answer to a command for `device`. The parameters of OUT, if it is that, are zeros.
    pub(crate) fn try_ask(&mut self, cdb: [u8; 16], device: &File) -> io::Result<Status> {
        let list: &[u8] = match cdb.first() == REGISTER.first() {
            true => &[0; PARAMETERS],
            false => &[],
        };
        self.try_ask_with(cdb, list, device)
    }

    /// The same with these parameters.
    pub(crate) fn try_ask_with(
        &mut self,
        cdb: [u8; 16],
        list: &[u8],
        device: &File,
    ) -> io::Result<Status> {
        fd_passing::send(self.0.as_fd(), &cdb, device.as_fd())?;
        if !list.is_empty() {
            self.0.write_all(list)?;
        }
        self.answer()
    }

    /// The status of the next answer, whose data are read too.
    pub(crate) fn answer(&mut self) -> io::Result<Status> {
        let mut head = [0; ANSWER];
        self.0.read_exact(&mut head)?;
        let [_, _, _, status, a, b, c, d, ..] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        self.0.read_exact(&mut vec![0; length])?;
        Ok(Status(status))
    }

    /// Checks that the helper answers it as `/dev/null` does.
    #[track_caller]
    pub(crate) fn is_served(&mut self) {
        for cdb in [READ_KEYS, REGISTER] {
            assert_eq!(self.try_ask(cdb, &null()).unwrap(), Status::CHECK_CONDITION);
        }
    }

    /// Leaves, and waits until the helper has seen it.
    pub(crate) fn leave(mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.is_closed();
    }

    /// Checks that nothing comes from the helper for `length`.
    #[track_caller]
    pub(crate) fn hears_nothing_for(&mut self, length: Duration) {
        self.0.set_read_timeout(Some(length)).unwrap();
        // A read with a timeout is interrupted where the host suspends this process.
        let heard = loop {
            match self.0.read(&mut [0]).map_err(|error| error.kind()) {
                Err(io::ErrorKind::Interrupted) => {}
                heard => break heard,
            }
        };
        assert_eq!(heard, Err(io::ErrorKind::WouldBlock));
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Waits until the helper has closed the connection, having said nothing.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            // Something that was sent was not read.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}
