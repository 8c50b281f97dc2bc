// SPDX-License-Identifier: MIT OR Apache-2.0

//! The socket that the state document is written to: one document for each connection.
//!
//! Its name is in the abstract namespace, so that it leaves no file behind. The helper reads
//! nothing from a connection except the credentials of the peer: only root, the helper's own user
//! and the users of `--state-user` get a document.

use std::io;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
    send, socket_with,
};
use rustix::process::Uid;
use rustix::thread::set_name;

use super::Monitor;
use super::document::MapStates;

/// Maximum number of connections that wait.
const BACKLOG: i32 = 16;

/// Time for a peer to receive the document. Other peers wait meanwhile.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Delay after a failed accept(2), for example without free descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The listening socket.
#[derive(Debug)]
pub(crate) struct StateSocket {
    socket: OwnedFd,
    /// Users other than root that get a document.
    users: Vec<u32>,
}

impl StateSocket {
    /// Binds the socket of this process. `users` get documents beside root and the helper's own
    /// user.
    pub(crate) fn bind(users: Vec<u32>) -> io::Result<Self> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        let name = helper_state::socket_name(process::id());
        bind(
            &socket,
            &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        )?;
        listen(&socket, BACKLOG)?;
        Ok(Self { socket, users })
    }

    /// Starts the thread that writes documents. It ends when the process exits.
    pub(crate) fn start(
        mut self,
        own_user: Uid,
        monitor: Arc<Monitor>,
        path: String,
        maps: impl Fn() -> MapStates + Send + 'static,
    ) -> io::Result<()> {
        self.users.push(own_user.as_raw());
        let serve = move || {
            let _ = set_name(c"state");
            loop {
                match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                    Ok(peer) if self.is_allowed(&peer) => {
                        let document = monitor.document(&path, maps());
                        let text = serde_json::to_vec(&document).unwrap_or_default();
                        // A peer that does not read in time gets only a part of the document.
                        let _ = send_all(&peer, &text, SEND_TIMEOUT);
                    }
                    Ok(_) => {}
                    Err(_) => thread::sleep(RETRY_DELAY),
                }
            }
        };
        thread::Builder::new().spawn(serve).map(drop)
    }

    fn is_allowed(&self, peer: &OwnedFd) -> bool {
        let user = getsockopt(peer, sockopt::PeerCredentials).map(|peer| peer.uid());
        user.is_ok_and(|user| user == 0 || self.users.contains(&user))
    }
}

/// Sends bytes within `timeout`.
fn send_all(peer: &OwnedFd, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
    let end = Instant::now() + timeout;
    while !bytes.is_empty() {
        match send(peer, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::AGAIN) => {
                let left = end.saturating_duration_since(Instant::now());
                let left = Timespec::try_from(left).unwrap_or_default();
                let mut sockets = [PollFd::new(peer, PollFlags::OUT)];
                match poll(&mut sockets, Some(&left)) {
                    Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    /// More than a socket has room for.
    const LENGTH: usize = 8 << 20;

    #[test]
    fn document_that_is_longer_than_the_buffer_is_sent() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes.len())
        });
        send_all(&writer.into(), &vec![b'x'; LENGTH], Duration::from_secs(60)).unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), LENGTH);
    }

    #[test]
    fn peer_that_does_not_read_is_given_up() {
        let (_reader, writer) = UnixStream::pair().unwrap();
        let sent = send_all(
            &writer.into(),
            &vec![b'x'; LENGTH],
            Duration::from_millis(1),
        );
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
