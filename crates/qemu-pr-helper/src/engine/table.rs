//! The sessions there are, and how many of them are whose.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;

use super::begun::Begun;
use super::sync::Mutex;
use super::sync::atomic::AtomicBool;
use crate::client::Client;
use crate::session::Session;

/// The sessions, each at a place that does not change.
#[derive(Debug)]
pub(super) struct Table {
    entries: Slab<Entry>,
    /// How many entries a process has; none with 0.
    of_process: HashMap<i32, usize>,
    most_of_a_process: usize,
}

/// A session, and what others look at while somebody has it: the socket that is waited for, and whether the client
/// is overdue.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) session: Mutex<Session>,
    pub(super) begun: Begun,
    /// The client is waited for, to read what it was answered.
    pub(super) is_to_read: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    seat: Arc<Seat>,
    process: Option<i32>,
}

impl Table {
    /// An empty table, in which a process can have so many.
    pub(super) fn new(most_of_a_process: usize) -> Self {
        Self {
            entries: Slab::new(),
            of_process: HashMap::new(),
            most_of_a_process,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the client's process may have another connection.
    ///
    /// Processes of namespaces that this one cannot see have no number to tell them apart by. They are
    /// not counted.
    pub(super) fn has_room_for(&self, client: &Client) -> bool {
        let present = client
            .process()
            .and_then(|process| self.of_process.get(&process));
        present.is_none_or(|present| *present < self.most_of_a_process)
    }

    /// Takes in the session of `client`; gives its place.
    pub(super) fn insert(&mut self, client: &Client, seat: Arc<Seat>) -> usize {
        let process = client.process();
        if let Some(process) = process {
            let present = self.of_process.entry(process).or_default();
            *present = present.saturating_add(1);
        }
        self.entries.insert(Entry { seat, process })
    }

    /// All there are.
    pub(super) fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.entries.iter().map(|(_, entry)| &entry.seat)
    }

    /// The session at a place, if there is one.
    pub(super) fn get(&self, place: usize) -> Option<Arc<Seat>> {
        self.entries.get(place).map(|entry| Arc::clone(&entry.seat))
    }

    /// Forgets the session at a place. Whoever has it, or its socket, is to see to its end.
    pub(super) fn remove(&mut self, place: usize) {
        let Some(Entry {
            process: Some(process),
            ..
        }) = self.entries.try_remove(place)
        else {
            return;
        };
        if let Some(present) = self.of_process.get_mut(&process) {
            *present = present.saturating_sub(1);
            if *present == 0 {
                self.of_process.remove(&process);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn seat(number: u64) -> (Client, Arc<Seat>) {
        let (here, there) = UnixStream::pair().unwrap();
        let client = Client::of(&here, number);
        drop(there);
        let socket = Arc::new(OwnedFd::from(here));
        let seat = Seat {
            session: Mutex::new(Session::new(Arc::clone(&socket), client)),
            socket,
            begun: Begun::nothing(),
            is_to_read: AtomicBool::new(false),
        };
        (client, Arc::new(seat))
    }

    #[test]
    fn a_process_has_its_share_and_gets_it_back() {
        let mut table = Table::new(2);
        let mut places = Vec::new();
        for number in 1..=2 {
            let (client, seat) = seat(number);
            assert!(table.has_room_for(&client));
            places.push(table.insert(&client, seat));
        }
        let (client, _seat) = seat(3);
        assert!(!table.has_room_for(&client));
        table.remove(places[0]);
        assert!(table.has_room_for(&client));
        assert_eq!(table.len(), 1);
    }
}
