//! From a seat to an answer: what a thread does with a client that has something to ask.

use std::time::Duration;

use pr_socket::server::Patience;
use pr_socket::{ReplyBuffer, Request};
use scsi_pr::Status;

use super::Engine;
use super::sync::atomic::Ordering;
use super::sync::{lock, thread};
use super::table::Seat;
use crate::client::Client;
use crate::device::{self, Number};
use crate::outcome::{Execute, Outcome};
use crate::report;
use crate::session::{Served, Wait};

/// How many requests of one client a thread serves that may not stay with it. A client that never pauses would
/// keep the thread from others. The model is to come to the end of it.
const MOST_IN_A_ROW: u32 = if cfg!(shuttle) { 1 } else { 16 };

/// How long a thread rests before the kernel is asked again for memory that it did not have.
const WITHOUT_MEMORY: Duration = Duration::from_millis(50);

impl<E: Execute> Engine<E> {
    /// Serves the session at `place` in the table until it has to wait.
    pub(super) fn serve(&self, place: usize, reply: &mut ReplyBuffer, may_block: bool) {
        let Some(seat) = lock(&self.table).get(place) else {
            return;
        };
        self.serving.fetch_add(1, Ordering::SeqCst);
        seat.is_to_read.store(false, Ordering::SeqCst);
        let wait = self.serve_until_wait(&seat, reply, may_block);
        if wait == Wait::Rest {
            self.overdue.note(&seat.begun);
        }
        if wait == Wait::Memory {
            thread::sleep(WITHOUT_MEMORY);
        }
        // Before somebody else can be woken for it.
        let is_to_read = wait == Wait::Writable;
        seat.is_to_read.store(is_to_read, Ordering::SeqCst);
        let is_over = match wait {
            Wait::Over => true,
            // Not before the session is let go of: whoever is woken wants it.
            wait => match self.poll.again(place, &seat.socket, wait) {
                Ok(()) => false,
                Err(error) => {
                    log::error!("cannot wait for a client, connection closed: {error}");
                    true
                }
            },
        };
        if is_over {
            lock(&self.table).remove(place);
        }
        // Whoever was woken may be through with it already, and this the last one who has it.
        self.let_go(seat, may_block);
        if is_over {
            // Its descriptor is free now, and somebody at the door may be waiting for it.
            self.reopen_door();
        }
        self.serving.fetch_sub(1, Ordering::SeqCst);
    }

    /// Serves request after request. Says what there is to wait for then.
    fn serve_until_wait(&self, seat: &Seat, reply: &mut ReplyBuffer, may_block: bool) -> Wait {
        let mut session = lock(&seat.session);
        if seat.begun.is_given_up() {
            session.give_up();
            return Wait::Over;
        }
        let stay = may_block.then(|| self.crew.stay()).flatten();
        let mut patience = Patience::None;
        let mut in_a_row = 0;
        loop {
            // A request that is not read now, or read and not begun, finds its connection closed.
            if self.stopping.load(Ordering::SeqCst) {
                return Wait::Over;
            }
            let mut is_late = false;
            let served = session.serve(patience, reply, |client, request, data| {
                is_late = !seat.begun.finish();
                if is_late {
                    self.discard(request, may_block);
                    return None;
                }
                self.run(client, request, data, may_block)
            });
            is_late |= served == Served::Handshake && !seat.begun.finish();
            if is_late {
                session.give_up();
                return Wait::Over;
            }
            match served {
                Served::Handshake => {}
                // Who has asked once asks again.
                Served::Request if stay.is_some() => patience = Patience::OfSocket,
                Served::Request if may_block && in_a_row < MOST_IN_A_ROW => in_a_row += 1,
                // Others first. Where this thread may not block, whoever is woken for the next request may find
                // a thread again.
                Served::Request => return session.wait(),
                Served::Nothing(wait) => return wait,
            }
        }
    }

    /// Executes one request, or answers BUSY where that might leave nobody for everybody else. `None` if no
    /// command may begin any more.
    fn run(
        &self,
        client: &Client,
        request: Request,
        data: &mut [u8],
        may_block: bool,
    ) -> Option<Outcome> {
        if self.stopping.load(Ordering::SeqCst) {
            self.discard(request, may_block);
            return None;
        }
        if !may_block {
            // Not even the device may be looked at: that can take long as well.
            report::refused_unseen(client, "no thread can be started");
            self.discard(request, may_block);
            return Some(Outcome::status(Status::BUSY));
        }
        let number = device::number_in(&request);
        let Some(_place) = self.devices.enter(number) else {
            return Some(self.refuse_crowd(client, &request, number));
        };
        let pending = report::begin(client, &request, number);
        let outcome = self.executor.execute(client, &request, number, data);
        pending.end(client, &request, &outcome);
        // It can take as long as a command, and as long as it takes the command has its place.
        drop(request);
        Some(outcome)
    }

    /// So many commands wait for this device that one more would only take a thread from the others.
    fn refuse_crowd(&self, client: &Client, request: &Request, number: Number) -> Outcome {
        if self.no_place.is_due() {
            log::warn!(
                "{client}: device {number} has as many commands in progress as it may \
                 (--max-commands-per-device), command answered with BUSY"
            );
        }
        report::refused(
            client,
            request,
            "the device has too many commands in progress",
        );
        Outcome::status(Status::BUSY)
    }
}
