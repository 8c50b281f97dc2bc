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

impl<E: Execute> Engine<E> {
    /// Takes in clients that have connected.
    pub(super) fn admit(&self, may_block: bool) {
        if !may_block {
            return self.door.pause(format_args!("no thread can be started"));
        }
        // By now others can look after the door. The connections that come to nothing are closed last:
        // what is still in them may be such that a close takes long.
        let rejected = self.let_in();
        drop(rejected);
    }

    /// Takes in some of the clients that have connected; the others are for whoever is woken next. Gives those that
    /// come to nothing.
    ///
    /// Until the door is waited for again nobody else is woken for it. By then all have their places, so that
    /// whoever counts them counts them all.
    fn let_in(&self) -> Vec<Arc<OwnedFd>> {
        let mut rejected = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            if self.closing.load(Ordering::SeqCst) {
                return rejected;
            }
            let present = lock(&self.table).len();
            match self.door.next(present) {
                Knock::Client(socket, number) => {
                    let client = Client::of(&socket, number);
                    rejected.extend(self.welcome(&client, Arc::new(socket)));
                }
                Knock::Nobody => break,
                Knock::Paused => return rejected,
            }
        }
        self.watch_door();
        rejected
    }

    /// Greets a client, and puts its session into the table and the epoll set. Gives the socket back if it
    /// comes to nothing.
    fn welcome(&self, client: &Client, socket: Arc<OwnedFd>) -> Option<Arc<OwnedFd>> {
        if !lock(&self.table).has_room_for(client) {
            if self.no_room.is_due() {
                log::warn!("{client}: its process has too many connections, this one is closed");
            }
            trace!(pr_helper_client_refused(
                client.number(),
                client.pid(),
                client.user(),
                "its process has too many connections",
            ));
            return Some(socket);
        }
        let mut session = Session::new(Arc::clone(&socket), *client);
        let wait = match session.greet() {
            Ok(wait) => wait,
            Err(ended) => {
                log::info!("{client}: gone before it was greeted: {}", chain(&ended));
                trace!(pr_helper_client_refused(
                    client.number(),
                    client.pid(),
                    client.user(),
                    "gone before it was greeted",
                ));
                return Some(socket);
            }
        };
        let seat = Arc::new(Seat {
            socket: Arc::clone(&socket),
            session: Mutex::new(session),
            begun: Begun::nothing(),
            is_to_read: AtomicBool::new(false),
        });
        let place = lock(&self.table).insert(client, Arc::clone(&seat));
        // It owes an answer to the greeting. Noted where a search finds it, and before anybody is woken by that.
        self.overdue.note(&seat.begun);
        // Else whoever ends the engine sees it in the table.
        if self.closing.load(Ordering::SeqCst) {
            self.hear_out(&seat);
        }
        drop(seat);
        if let Err(error) = self.poll.add(place, &socket, wait) {
            log::error!("{client}: cannot wait for it, connection closed: {error}");
            lock(&self.table).remove(place);
            return Some(socket);
        }
        None
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
