// SPDX-License-Identifier: MIT OR Apache-2.0

//! Connection to multipathd: a command is its length as a `size_t` and the text with a zero byte;
//! so is the reply.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufReader, Read as _, Write as _};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::geteuid;

/// Environment variable with the name of the only socket to use. A leading `@` denotes the abstract
/// namespace.
const SOCKET_VARIABLE: &str = "MULTIPATH_SOCKET_NAME";

/// Default sockets. multipathd listens on the first since 0.12, and on the second in all versions.
const DEFAULT_SOCKETS: [&str; 2] = [
    "/run/multipathd.socket",
    "@/org/kernel/linux/storage/multipathd",
];

/// Time limit for a command with a result that is ignored.
pub(super) const BEST_EFFORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum length of a reply in bytes. multipathd may reply to an unknown verb with a
/// page of help.
const MAX_REPLY_LEN: usize = 64 * 1024;

/// Connection to multipathd, kept from one request to the next.
#[derive(Debug)]
pub(super) struct Connection {
    /// Names of sockets; the first one that accepts a connection is used.
    pub(super) sockets: Vec<OsString>,
    /// `None` before the first command, and after an error. The buffer receives the length and the
    /// text of a reply at once.
    pub(super) socket: Option<BufReader<UnixStream>>,
    /// Commands that have not been sent.
    pub(super) posted: Vec<String>,
}

impl Default for Connection {
    fn default() -> Self {
        let sockets = match env::var_os(SOCKET_VARIABLE) {
            Some(name) => vec![name],
            None => DEFAULT_SOCKETS.map(OsString::from).to_vec(),
        };
        Self {
            sockets,
            socket: None,
            posted: Vec::new(),
        }
    }
}

impl Connection {
    /// Sends commands at once, after the posted ones. Waits for each reply for at most `timeout`.
    pub(super) fn send(
        &mut self,
        commands: &[String],
        timeout: Duration,
    ) -> io::Result<Vec<String>> {
        self.send_posted();
        self.send_now(commands, timeout)
    }

    /// Adds a command with a reply that is ignored.
    pub(super) fn post(&mut self, command: String) {
        self.posted.push(command);
    }

    /// Sends the posted commands, and waits for the replies.
    pub(super) fn send_posted(&mut self) {
        for command in mem::take(&mut self.posted) {
            let _ = self.send_now(&[command], BEST_EFFORT_TIMEOUT);
        }
    }

    /// Sends commands over the connection of the last ones, or over a new connection.
    fn send_now(&mut self, commands: &[String], timeout: Duration) -> io::Result<Vec<String>> {
        if let Some(mut socket) = self.socket.take() {
            match exchange(&mut socket, commands, timeout) {
                // multipathd has been restarted. No command has another effect if it is repeated.
                Err(error) if is_disconnection(&error) => {}
                replies => return self.keep(socket, replies),
            }
        }
        let mut socket = BufReader::new(connect_first(&self.sockets, timeout)?);
        let replies = exchange(&mut socket, commands, timeout);
        self.keep(socket, replies)
    }

    /// Keeps a socket for the next commands, unless a reply to the last ones is missing.
    fn keep(
        &mut self,
        socket: BufReader<UnixStream>,
        replies: io::Result<Vec<String>>,
    ) -> io::Result<Vec<String>> {
        self.socket = replies.is_ok().then_some(socket);
        replies.map_err(|error| match error.kind() {
            // The timeout of the socket.
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

/// Returns whether the peer has closed the connection.
fn is_disconnection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}

/// Sends commands at once, and waits for each reply for at most `timeout`.
fn exchange(
    socket: &mut BufReader<UnixStream>,
    commands: &[String],
    timeout: Duration,
) -> io::Result<Vec<String>> {
    // The timeout for sending is that of the connection. A socket without other commands has room
    // for these.
    socket.get_ref().set_read_timeout(Some(timeout))?;
    let mut message = Vec::new();
    for command in commands {
        let length = command.len().saturating_add(1);
        message.extend(length.to_ne_bytes());
        message.extend(command.bytes());
        message.push(0);
    }
    // Write the message at once: multipathd drops a client if a length arrives in parts.
    socket.get_mut().write_all(&message)?;
    commands.iter().map(|_| read_reply(socket)).collect()
}

fn read_reply(socket: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut length = [0; size_of::<usize>()];
    socket.read_exact(&mut length)?;
    let length = usize::from_ne_bytes(length);
    if length > MAX_REPLY_LEN {
        return Err(io::Error::other("the reply is too long"));
    }
    let mut reply = vec![0; length];
    socket.read_exact(&mut reply)?;
    let text = reply.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).trim_end().to_owned())
}

/// Connects to the first of `sockets` that accepts a connection.
fn connect_first(sockets: &[OsString], timeout: Duration) -> io::Result<UnixStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for name in sockets {
        match connect(name.as_bytes(), timeout) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                last = io::Error::new(error.kind(), format!("{}: {error}", name.display()));
            }
        }
    }
    Err(last)
}

/// Connects to a socket on which root listens. While multipathd is not running, any user can bind
/// the abstract name.
fn connect(name: &[u8], timeout: Duration) -> io::Result<UnixStream> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(name)?,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Set the timeout before connecting: connect(2) blocks if the listener is stopped and its
    // backlog is full.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    net::connect(&socket, &address)?;
    let owner = sockopt::socket_peercred(&socket)?.uid;
    if !owner.is_root() && owner != geteuid() {
        let text = format!("the listener is user {}, not root", owner.as_raw());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn multipathd_that_is_stopped_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut connection = Connection {
            sockets: vec![path.into()],
            ..Connection::default()
        };
        let error = connection.send(&["help".to_owned()], Duration::from_millis(1));
        assert_eq!(error.unwrap_err().to_string(), "timed out");
    }
}
