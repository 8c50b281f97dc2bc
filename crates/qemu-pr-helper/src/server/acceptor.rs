// SPDX-License-Identifier: MIT OR Apache-2.0

//! The acceptor: accepts connections from the listener within the limits, greets their clients, and
//! pauses if it cannot accept more.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pr_helper_protocol::server::Readiness;
use rustix::process::{Resource, getrlimit};

use super::connections::{ConnectionEntry, ConnectionPermits};
use super::limiter::Limiter;
use super::listener::Listener;
use super::rejections::{MAX_KEPT, Rejections};
use super::request_timeout::{RequestTimer, Timer};
use super::session::Session;
use super::sync::Mutex;
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::cli::Limits;
use crate::command::known_maps::MAX_KNOWN_MAPS;
use crate::command::peer::{Peer, ProcessKey};
use crate::logging::{KeyedRateLimit, RateLimit};
use crate::monitor::Monitor;
use crate::process::closer::Closer;
use crate::trace::argument::ObjectId;
use crate::trace::trace;

/// Number of descriptors that the helper needs beside those of its clients: standard streams,
/// listener, epoll set, timers, trace file, sockets of idle workers, of the state and of the event
/// journal, inherited ones and connections that are being rejected (44 in all), the rejected
/// connections that are kept open for a while, and the files of known maps.
const RESERVED_FDS: u64 = 44 + MAX_KEPT as u64 + MAX_KNOWN_MAPS as u64;

/// Delay before paused accepting is tried again.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Result of accepting a connection.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A connection, and the readiness to wait for.
    Connection(Arc<ConnectionEntry>, Readiness),
    /// A connection that the client closed before the greeting.
    Disconnected(Arc<ConnectionEntry>),
    /// A connection of a process that has too many of them.
    Rejected,
    /// No client waits.
    WouldBlock,
    /// Accepting is paused. The timer expires when it is to be resumed.
    Paused,
}

/// The listener, with the limits on connections.
///
/// A connection needs a descriptor, and each of its commands needs others: at least that of its
/// device. Connections are accepted as long as there are enough descriptors for all of them, so
/// that a command never lacks its own. The other clients wait in the listener's backlog, which
/// costs nothing, until one disconnects.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: Listener,
    /// Expires when accepting is to be resumed after a pause.
    pub(super) timer: Timer,
    max_clients: usize,
    pub(super) permits: Arc<ConnectionPermits>,
    pub(super) rejections: Rejections,
    accepted: AtomicU64,
    paused: AtomicBool,
    pause_warning: RateLimit,
    process_limit_warning: KeyedRateLimit<ProcessKey>,
    monitor: Arc<Monitor>,
}

impl Acceptor {
    /// Creates an acceptor for commands that need `fds_per_command` descriptors each. Rejected
    /// connections are passed to `closer`.
    pub(super) fn new(
        listener: Listener,
        fds_per_command: u64,
        closer: Option<Closer>,
        monitor: Arc<Monitor>,
        limits: &Limits,
    ) -> io::Result<Self> {
        let fds = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let fds_per_client = fds_per_command.saturating_add(1);
        let possible = fds.saturating_sub(RESERVED_FDS) / fds_per_client;
        let possible = usize::try_from(possible.max(1)).unwrap_or(usize::MAX);
        let wanted = limits.max_clients().unwrap_or(possible);
        if wanted > possible {
            log::warn!(
                "--max-clients lowered from {wanted} to {possible}: the file descriptor limit is \
                 {fds}; raise it (LimitNOFILE= in a systemd unit)"
            );
        }
        let max_clients = wanted.min(possible);
        Ok(Self {
            listener,
            timer: Timer::new()?,
            max_clients,
            permits: Arc::new(ConnectionPermits::new(
                limits.max_clients_per_process(max_clients),
            )),
            rejections: Rejections::new(closer),
            accepted: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            pause_warning: RateLimit::new(),
            process_limit_warning: KeyedRateLimit::new(),
            monitor,
        })
    }

    /// Accepts the next connection and greets its client. Dropping the returned entry closes the
    /// connection.
    pub(super) fn accept_next(&self) -> Accepted {
        if self.rejections.is_full() {
            self.pause(format_args!("rejected connections cannot be closed"));
            return Accepted::Paused;
        }
        let connected = self.permits.total();
        if connected >= self.max_clients {
            self.pause(format_args!(
                "the limit of {connected} clients is reached (--max-clients, LimitNOFILE=)"
            ));
            return Accepted::Paused;
        }
        match self.listener.accept() {
            Ok(socket) => {
                let before = self.accepted.fetch_add(1, Ordering::Relaxed);
                let number = before.saturating_add(1);
                trace!(qio_channel_socket_accept(self.listener.address()));
                trace!(qio_channel_socket_accept_complete(
                    self.listener.address(),
                    ObjectId(number),
                    socket.as_raw_fd(),
                ));
                let peer = Peer::from_socket(&socket, number);
                self.greet(&peer, socket)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::WouldBlock,
            Err(error) => {
                trace!(qio_channel_socket_accept(self.listener.address()));
                trace!(qio_channel_socket_accept_fail(self.listener.address()));
                self.pause(format_args!("{error}"));
                Accepted::Paused
            }
        }
    }

    /// Greets the client of an accepted connection, or rejects the connection.
    fn greet(&self, peer: &Peer, socket: OwnedFd) -> Accepted {
        let permits = Arc::clone(&self.permits);
        let Some(permit) = Limiter::try_acquire(permits, peer.process_key()) else {
            if let Some(suppressed) = self.process_limit_warning.should_log(peer.process_key()) {
                log::warn!(
                    "{peer}: connection rejected: its process reached the limit of connections \
                     (--max-clients-per-process){suppressed}"
                );
            }
            self.monitor.counters.rejected_connections.increment();
            trace!(pr_helper_client_refused(
                peer.connection_id(),
                peer.pid,
                peer.uid,
                "its process has too many connections",
            ));
            // If the broker is behind, this waits, and no connection is accepted meanwhile.
            self.rejections.reject(socket);
            return Accepted::Rejected;
        };
        let socket = Arc::new(socket);
        let mut session = Session::new(Arc::clone(&socket), peer.clone());
        let greeted = session.send_greeting();
        let connection = Arc::new(ConnectionEntry {
            session: Mutex::new(session),
            socket,
            request_timer: RequestTimer::idle(),
            client: self.monitor.connected(peer),
            is_idle: AtomicBool::new(false),
            awaits_peer_read: AtomicBool::new(false),
            has_deferred_fd: AtomicBool::new(false),
            permit,
        });
        match greeted {
            Ok(readiness) => Accepted::Connection(connection, readiness),
            Err(_) => Accepted::Disconnected(connection),
        }
    }

    /// Pauses accepting, and sets the timer that resumes it. The timer is set for every reason: a
    /// client that disconnected just before the pause does not resume accepting.
    pub(super) fn pause(&self, reason: fmt::Arguments<'_>) {
        trace!(pr_helper_accept_paused(&reason.to_string()));
        self.monitor.counters.accept_pauses.increment();
        if self.pause_warning.should_log() {
            log::warn!("accepting connections paused: {reason}");
        }
        self.paused.store(true, Ordering::SeqCst);
        if let Err(error) = self.timer.set(ACCEPT_RETRY_DELAY) {
            log::error!(
                "accepting connections paused until a client disconnects: cannot set the timer: \
                 {error}"
            );
        }
    }

    /// Ends a pause. Returns whether there was one; the caller then rearms the listener.
    pub(super) fn resume(&self) -> bool {
        let was_paused = self.paused.swap(false, Ordering::SeqCst);
        if was_paused {
            trace!(pr_helper_accept_resumed());
        }
        was_paused
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
