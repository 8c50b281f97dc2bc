//! What a service manager is told: that the helper serves, that it is alive, that it ends (`sd_notify(3)`).
//!
//! The socket is opened at the start and kept: later the sandbox lets none be made.

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

/// How long a manager that does not read is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// The way to a service manager, if one wants to be told.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<OwnedFd>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names. To name one that cannot be told anything is no reason not to
    /// start; it gets a line.
    #[must_use]
    pub fn of_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match open(&address) {
            Ok(socket) => Self {
                socket: Some(socket),
                watchdog: watchdog(),
            },
            Err(error) => {
                let address = address.display();
                log::warn!("cannot tell the service manager anything at '{address}': {error}");
                Self::default()
            }
        }
    }

    /// How often the manager wants to hear that the helper is alive, or else ends it.
    #[must_use]
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The helper serves. A daemon is another process than the one that the manager has started.
    pub fn ready(&self, is_daemon: bool, status: impl Display) {
        let process = std::process::id();
        let process = is_daemon.then(|| format!("MAINPID={process}\n"));
        let process = process.unwrap_or_default();
        self.tell(format_args!("READY=1\n{process}STATUS={status}"));
    }

    /// The helper is alive.
    pub fn alive(&self, status: impl Display) {
        self.tell(format_args!("WATCHDOG=1\nSTATUS={status}"));
    }

    /// The helper has begun to end.
    pub fn stopping(&self, status: impl Display) {
        self.tell(format_args!("STOPPING=1\nSTATUS={status}"));
    }

    fn tell(&self, what: impl Display) {
        let Some(socket) = &self.socket else {
            return;
        };
        let what = what.to_string();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let end = Instant::now() + PATIENCE;
        loop {
            match send(socket, what.as_bytes(), flags) {
                Ok(_) => return,
                // A manager that is busy is waited for, but one that does not read must not stop the helper.
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) if Instant::now() < end => {
                    thread::sleep(PAUSE);
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

/// `WATCHDOG_USEC`, if it is meant for this process (`sd_watchdog_enabled(3)`).
fn watchdog() -> Option<Duration> {
    let text = |name| env::var_os(name).map(OsString::into_vec);
    let number = |name| String::from_utf8(text(name)?).ok()?.parse::<u64>().ok();
    let is_for_us =
        text("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC")
        .filter(|microseconds| is_for_us && *microseconds > 0)
        .map(Duration::from_micros)
}
