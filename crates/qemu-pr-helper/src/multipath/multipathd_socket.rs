//! One exchange with multipathd, at the socket where it listens.
//!
//! A command is its length as a `size_t` and the text with a zero byte; so is the reply.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::geteuid;

/// Names another socket than the usual ones, and then only that. `@` stands for the abstract namespace.
const VARIABLE: &str = "MULTIPATH_SOCKET_NAME";

/// Where multipathd listens: since 0.12 at the first, always at the second.
const SOCKETS: [&str; 2] = [
    "/run/multipathd.socket",
    "@/org/kernel/linux/storage/multipathd",
];

/// Bytes of a reply that are of interest. Who does not know a verb may reply with a page of help.
const LONGEST_REPLY: usize = 64 * 1024;

/// The names of sockets, of which the first that somebody listens at is multipathd's.
#[derive(Debug)]
pub(super) struct Sockets(pub(super) Vec<OsString>);

impl Sockets {
    /// Those that environment or custom names.
    pub(super) fn of_environment() -> Self {
        Self(match env::var_os(VARIABLE) {
            Some(name) => vec![name],
            None => SOCKETS.map(OsString::from).to_vec(),
        })
    }

    /// Sends a command and waits for the reply.
    ///
    /// # Errors
    ///
    /// Nobody is there, or there is no reply within `patience`.
    pub(super) fn exchange(&self, command: &str, patience: Duration) -> io::Result<String> {
        let mut socket = self.connect(patience)?;
        socket.set_read_timeout(Some(patience))?;
        let length = command.len().saturating_add(1);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(command.bytes());
        message.push(0);
        // In one piece: it gives up on a length that comes in parts.
        socket.write_all(&message)?;
        let mut length = [0; size_of::<usize>()];
        socket.read_exact(&mut length)?;
        let length = usize::from_ne_bytes(length).min(LONGEST_REPLY);
        let mut reply = vec![0; length];
        socket.read_exact(&mut reply)?;
        let text = reply.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).trim_end().to_owned())
    }

    fn connect(&self, patience: Duration) -> io::Result<UnixStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for name in &self.0 {
            match connect(name.as_bytes(), patience) {
                Ok(socket) => return Ok(socket),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", name.display()));
                }
            }
        }
        Err(last)
    }
}

/// A connection to the socket with this name, if it is root who listens there: while multipathd is not
/// there, anybody can take the abstract name.
fn connect(name: &[u8], patience: Duration) -> io::Result<UnixStream> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(name)?,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before it is connected: somebody who is stopped does not accept, and the backlog fills.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    net::connect(&socket, &address)?;
    let owner = sockopt::socket_peercred(&socket)?.uid;
    if !owner.is_root() && owner != geteuid() {
        let text = format!("user {} listens there, not root", owner.as_raw());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(UnixStream::from(socket))
}
