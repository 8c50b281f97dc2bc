//! Who is at the other end of a connection.

use std::fmt;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

/// Who is at the other end of a connection. `Display` is how log and trace name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Counts connections, from 1.
    number: u64,
    /// The process that connected; 0 if it is in a namespace that this process cannot see.
    process: i32,
    user: u32,
}

impl Client {
    /// Who has connected on `socket`, as the `number`th.
    #[must_use]
    pub fn of(socket: &impl AsFd, number: u64) -> Self {
        // Not with rustix, to whose type a process that cannot be seen, number 0, is no value.
        match getsockopt(socket, sockopt::PeerCredentials) {
            Ok(peer) => Self {
                number,
                process: peer.pid(),
                user: peer.uid(),
            },
            // The kernel notes them when a client connects; it has no way to fail on our sockets.
            Err(_) => Self {
                number,
                process: 0,
                user: u32::MAX,
            },
        }
    }
}

impl Client {
    /// Which connection this is, counted from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The user who connected.
    #[must_use]
    pub const fn user(&self) -> u32 {
        self.user
    }

    /// The process that connected, 0 if this one cannot see it.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.process
    }

    /// The process that connected, if this one can see it.
    #[must_use]
    pub const fn process(&self) -> Option<i32> {
        if self.process > 0 {
            Some(self.process)
        } else {
            None
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            process,
            user,
        } = self;
        write!(f, "client {number} (pid {process}, uid {user})")
    }
}
