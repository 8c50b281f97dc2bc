//! From the door to a seat: clients that have connected are greeted and waited for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Engine;
use super::begun::Begun;
use super::door::{Knock, MOST_AT_ONCE};
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::{Mutex, lock};
use super::table::Seat;
use crate::chain;
use crate::client::Client;
use crate::outcome::Execute;
use crate::session::Session;
use crate::trace::trace;

/// What the thread that has accepted a connection drops when it has waited for the listener again,
/// because closing a connection can block.
#[derive(Debug)]
enum Accepted {
    /// A connection whose process has no permit left, and that could not be handed over.
    OverLimit(OwnedFd),
    /// A connection that is served; or is not, because the client has gone or cannot be waited for.
    /// Another thread may have ended it by now, and this be the last owner.
    Seat(Arc<Seat>),
}

impl<E: Execute> Engine<E> {
    /// Accepts connections.
    pub(super) fn admit(&self, may_block: bool) {
        if !may_block {
            return self.door.pause(format_args!("no thread can be started"));
        }
        if self.rejections.is_full() {
            self.door
                .pause(format_args!("rejected connections cannot be closed"));
            return self.rejections.retry();
        }
        // By now other threads accept. Closing a connection can block.
        for accepted in self.let_in() {
            match accepted {
                Accepted::OverLimit(socket) => self.rejections.close(socket),
                Accepted::Seat(seat) => self.release(seat, true),
            }
        }
        self.rejections.retry();
    }

    /// Accepts some of the connections that are waiting; the others are for the thread that is woken
    /// next.
    ///
    /// No other thread is woken for the listener until it is waited for again. By then all accepted
    /// connections have their permits, so that the total is right.
    fn let_in(&self) -> Vec<Accepted> {
        let mut all = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            if self.closing.load(Ordering::SeqCst) {
                return all;
            }
            match self.door.next(self.permits.total()) {
                Knock::Client(socket, number) => {
                    let client = Client::of(&socket, number);
                    all.extend(self.welcome(&client, socket));
                }
                Knock::Nobody => break,
                Knock::Paused => return all,
            }
        }
        self.watch_door();
        all
    }

    /// Greets a client, and adds its connection to the table and the epoll set. Returns what the
    /// caller drops, unless the connection was handed over.
    fn welcome(&self, client: &Client, socket: OwnedFd) -> Option<Accepted> {
        let Some(permit) = self.permits.try_acquire(client.process_key()) else {
            if let Some(suppressed) = self.no_room.should_log(client.process_key()) {
                log::warn!(
                    "{client}: its process has too many connections, this one is closed{suppressed}"
                );
            }
            trace!(pr_helper_client_refused(
                client.number(),
                client.pid(),
                client.user(),
                "its process has too many connections",
            ));
            // If the broker is behind, no more connections are accepted meanwhile.
            let kept = self.rejections.hand_over(socket).err();
            return kept.map(Accepted::OverLimit);
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
                log::info!("{client}: gone before it was greeted: {}", chain(&ended));
                trace!(pr_helper_client_refused(
                    client.number(),
                    client.pid(),
                    client.user(),
                    "gone before it was greeted",
                ));
                return Some(Accepted::Seat(seat));
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
        Some(Accepted::Seat(seat))
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
