//! What a service manager is told: that the helper serves, that it is alive, that it ends (`sd_notify(3)`).
//!
//! The socket is opened at the start and kept: later the sandbox lets none be made.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

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

    /// The helper serves. `process` is this one, for a manager that started another one.
    pub fn ready(&self, process: u32, status: impl Display) {
        self.tell(format_args!("READY=1\nMAINPID={process}\nSTATUS={status}"));
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
        // A manager that does not read must not stop the helper.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(error) = send(socket, what.to_string().as_bytes(), flags) {
            log::info!("cannot tell the service manager anything: {error}");
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
