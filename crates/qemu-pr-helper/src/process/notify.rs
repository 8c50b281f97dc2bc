//! Messages to a service manager: the helper serves, is alive, ends (`sd_notify(3)`).
//!
//! The helper sends the first one itself, before it reads what clients send, and closes the socket.
//! A process with that socket could name another process as the service's main one and have the
//! service manager kill it. The broker sends the other messages.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

/// Time limit for the message that the helper serves. A service manager that never gets it ends the
/// helper, so it is worth a while.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for each other message. Commands on multipath maps wait meanwhile.
const TIMEOUT: Duration = Duration::from_millis(100);

/// Delay between attempts to send to a service manager that does not read.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Connection to a service manager, if the environment names one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<OwnedFd>,
}

impl ServiceManager {
    /// Connects to the service manager that the environment names. A failure is logged: it is no
    /// reason not to start.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let socket = open(&address)
            .inspect_err(|error| {
                let address = address.display();
                log::warn!("cannot tell the service manager anything at '{address}': {error}");
            })
            .ok();
        Self { socket }
    }

    /// Returns whether there is a connection.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends that the helper serves, and closes the connection. A daemon is another process than
    /// the one that the manager has started.
    ///
    /// The broker sends all further messages, which a service manager accepts from the main process
    /// alone unless the unit says otherwise. systemd 254 and newer take that from the message too.
    pub fn ready(self, is_daemon: bool, status: impl Display) {
        let process = std::process::id();
        let process = is_daemon.then(|| format!("MAINPID={process}\n"));
        let process = process.unwrap_or_default();
        let message = format!("READY=1\n{process}NOTIFYACCESS=all\nSTATUS={status}");
        self.send(&message, READY_TIMEOUT);
    }

    /// Sends that the helper is alive.
    pub fn watchdog_ping(&self, status: impl Display) {
        self.send(&format!("WATCHDOG=1\nSTATUS={status}"), TIMEOUT);
    }

    /// Sends that the helper has begun to end.
    pub fn stopping(&self, status: impl Display) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"), TIMEOUT);
    }

    fn send(&self, message: &str, timeout: Duration) {
        let Some(socket) = &self.socket else {
            return;
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let end = Instant::now() + timeout;
        loop {
            match send(socket, message.as_bytes(), flags) {
                Ok(_) => return,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) if Instant::now() < end => {
                    thread::sleep(RETRY_DELAY);
                }
                Err(error) => return log::warn!("cannot tell the service manager: {error}"),
            }
        }
    }
}

/// A socket that leads to `address`: a path, or behind an `@` an abstract name.
fn open(address: &OsStr) -> rustix::io::Result<OwnedFd> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(address)?,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Returns the time after which the service manager ends a helper that it has not heard of:
/// `WATCHDOG_USEC`, if it is meant for this process (`sd_watchdog_enabled(3)`).
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let text = |name| env::var_os(name).map(OsString::into_vec);
    let number = |name| String::from_utf8(text(name)?).ok()?.parse::<u64>().ok();
    let is_for_us =
        text("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC")
        .filter(|microseconds| is_for_us && *microseconds > 0)
        .map(Duration::from_micros)
}
