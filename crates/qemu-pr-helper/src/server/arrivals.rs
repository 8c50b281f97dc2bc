//! From the door to a seat: clients that have connected are greeted and waited for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Server;
use super::acceptor::{Knock, MOST_AT_ONCE};
use super::connections::Seat;
use super::request_timer::Begun;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::{Mutex, lock};
use crate::command::executor::CommandExecutor;
use crate::command::peer::Peer;
use crate::error_chain;
use crate::server::session::Session;
use crate::trace::trace;

impl<E: CommandExecutor> Server<E> {
    /// Accepts connections.
    pub(super) fn admit(&self, may_block: bool) {
        if !may_block {
            return self.door.pause(format_args!("no thread can be started"));
        }
        // By now other threads accept. Another thread may have ended a connection, and this be its
        // last owner. Closing one must not hold up the others.
        for seat in self.let_in() {
            self.release(seat, false);
        }
        self.rejections.close_kept();
    }

    /// Accepts some of the connections that are waiting; the others are for the thread that is woken
    /// next. Returns the connections that are served, and those that could not be.
    ///
    /// No other thread is woken for the listener until it is waited for again. By then all accepted
    /// connections have their permits, so that the total is right.
    fn let_in(&self) -> Vec<Arc<Seat>> {
        let mut all = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            if self.closing.load(Ordering::SeqCst) {
                return all;
            }
            if self.rejections.is_full() {
                let reason = format_args!("rejected connections cannot be closed");
                self.door.pause(reason);
                return all;
            }
            match self.door.next(self.permits.total()) {
                Knock::Client(socket, number) => {
                    let client = Peer::from_socket(&socket, number);
                    all.extend(self.welcome(&client, socket));
                }
                Knock::Nobody => break,
                Knock::Paused => return all,
            }
        }
        self.watch_door();
        all
    }

    /// Greets a client, and adds its connection to the table and the epoll set. Returns the
    /// connection, unless it is rejected; the caller [releases](Self::release) it.
    fn welcome(&self, client: &Peer, socket: OwnedFd) -> Option<Arc<Seat>> {
        let Some(permit) = self.permits.try_acquire(client.process_key()) else {
            if let Some(suppressed) = self.no_room.should_log(client.process_key()) {
                log::warn!(
                    "{client}: its process has too many connections, this one is closed{suppressed}"
                );
            }
            trace!(pr_helper_client_refused(
                client.connection_id(),
                client.pid(),
                client.user(),
                "its process has too many connections",
            ));
            // If the broker is behind, no more connections are accepted meanwhile.
            self.rejections.reject(socket);
            return None;
        };
        let socket = Arc::new(socket);
        let mut session = Session::new(Arc::clone(&socket), *client);
        let greeted = session.greet();
        let seat = Arc::new(Seat {
            session: Mutex::new(session),
            socket,
            begun: Begun::nothing(),
            is_to_read: AtomicBool::new(false),
            has_deferred_fd: AtomicBool::new(false),
            permit,
        });
        let wait = match greeted {
            Ok(wait) => wait,
            Err(ended) => {
                log::info!(
                    "{client}: gone before it was greeted: {}",
                    error_chain(&ended)
                );
                trace!(pr_helper_client_refused(
                    client.connection_id(),
                    client.pid(),
                    client.user(),
                    "gone before it was greeted",
                ));
                return Some(seat);
            }
        };
        let place = lock(&self.table).insert(Arc::clone(&seat));
        // The client owes an answer to the greeting. Recorded while a search can find it, and before
        // another thread is woken by the answer.
        self.overdue.note(&seat.begun);
        // If this does not see that the engine closes, the engine sees the connection in the table.
        if self.closing.load(Ordering::SeqCst) {
            self.hear_out(&seat);
        }
        if let Err(error) = self.poll.add(place, &seat.socket, wait) {
            log::error!("{client}: cannot wait for it, connection closed: {error}");
            lock(&self.table).remove(place);
        }
        Some(seat)
    }

    pub(super) fn reopen_door(&self) {
        if self.door.reopen() {
            self.watch_door();
        }
    }

    /// Has somebody woken for the door again. If the kernel refuses that now, it is asked again after a pause.
    fn watch_door(&self) {
        if let Err(error) = self.poll.door_again(&self.door) {
            self.door.pause(format_args!("{error}"));
        }
    }
}
