// SPDX-License-Identifier: MIT OR Apache-2.0

//! Socket activation (`sd_listen_fds(3)`) and messages to a service manager (`sd_notify(3)`).
//!
//! The helper sends READY=1 itself, before it reads what clients send, and then closes the socket:
//! a process with that socket could name another process as the main process of the service, and
//! the service manager would kill that process. The broker sends all other messages.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use cli_messages::error::system_error;
use linux_util::listen_fds;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
    sockopt,
};
use thiserror::Error;

/// Time limit for READY=1. It is long, because a service manager that misses this message kills
/// the helper.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for every other message. Commands on multipath maps wait meanwhile.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// Delay between attempts to send to a service manager that does not read.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Error of a socket that a service manager passed.
#[derive(Debug, Error)]
pub(crate) enum ActivationError {
    #[error("socket activation failed: LISTEN_FDS is {0}, not 1: use one ListenStream= line")]
    SocketCount(i64),
    #[error(
        "socket activation failed: invalid file descriptor fd = 3: {}; pass a socket, or unset \
         LISTEN_FDS",
        system_error(.0)
    )]
    NotOpen(io::Error),
    #[error(
        "socket activation failed: file descriptor 3 is not a listening Unix stream socket: use \
         ListenStream= with a path"
    )]
    NotListening,
}

/// Returns the socket that a service manager has passed to this process, if there is one.
///
/// As in QEMU's helper, variables that are malformed or name another process are ignored.
pub(crate) fn inherited_socket() -> Result<Option<OwnedFd>, ActivationError> {
    let number = |name| -> Option<i64> { env::var(name).ok()?.trim_start().parse().ok() };
    if number("LISTEN_PID") != Some(process::id().into()) {
        return Ok(None);
    }
    match number("LISTEN_FDS").unwrap_or(0) {
        0 => return Ok(None),
        1 => {}
        count => return Err(ActivationError::SocketCount(count)),
    }
    let socket = listen_fds::dup_listen_fd().map_err(ActivationError::NotOpen)?;
    let is_listening = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(&socket) == Ok(true);
    match is_listening {
        true => Ok(Some(socket)),
        false => Err(ActivationError::NotListening),
    }
}

/// Connection to a service manager, if the environment names one.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager(Option<OwnedFd>);

impl ServiceManager {
    /// Connects to the service manager that `NOTIFY_SOCKET` names. Logs a failure, which does not
    /// prevent the start.
    pub(crate) fn from_env() -> Self {
        let address = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let connect = |address: OsString| {
            let socket = connect_to(&address).inspect_err(|error| {
                let address = address.display();
                log::warn!("cannot connect to the service manager at '{address}': {error}");
            });
            socket.ok()
        };
        Self(address.and_then(connect))
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the watchdog timeout: `WATCHDOG_USEC`, if it applies to this process
    /// (`sd_watchdog_enabled(3)`).
    pub(crate) fn watchdog_timeout(&self) -> Option<Duration> {
        self.0.as_ref()?;
        let number = |name| -> Option<u64> { env::var(name).ok()?.parse().ok() };
        let is_for_this_process = env::var_os("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(process::id().into());
        number("WATCHDOG_USEC")
            .filter(|microseconds| is_for_this_process && *microseconds > 0)
            .map(Duration::from_micros)
    }

    /// Sends READY=1 and closes the connection. With `is_daemon`, the message names this process
    /// as the main process, because the service manager has started another one.
    ///
    /// NOTIFYACCESS=all lets the broker send the other messages: by default, a service manager
    /// accepts them from the main process only. systemd 254 and later honor it in a message.
    pub(crate) fn ready(self, is_daemon: bool, status: impl Display) {
        let main_pid = is_daemon.then(|| format!("MAINPID={}\n", process::id()));
        let main_pid = main_pid.unwrap_or_default();
        let message = format!("READY=1\n{main_pid}NOTIFYACCESS=all\nSTATUS={status}");
        self.send(&message, READY_TIMEOUT);
    }

    pub(crate) fn watchdog_ping(&self, status: impl Display) {
        self.send(&format!("WATCHDOG=1\nSTATUS={status}"), SEND_TIMEOUT);
    }

    pub(crate) fn stopping(&self, status: impl Display) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"), SEND_TIMEOUT);
    }

    fn send(&self, message: &str, timeout: Duration) {
        let Some(socket) = &self.0 else {
            return;
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let deadline = Instant::now() + timeout;
        loop {
            match send(socket, message.as_bytes(), flags) {
                Ok(_) => return,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) if Instant::now() < deadline => {
                    thread::sleep(RETRY_DELAY);
                }
                Err(error) => return log::warn!("cannot notify the service manager: {error}"),
            }
        }
    }
}

/// Connects to `address`: a path, or `@` and an abstract name.
fn connect_to(address: &OsStr) -> rustix::io::Result<OwnedFd> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(address)?,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}
