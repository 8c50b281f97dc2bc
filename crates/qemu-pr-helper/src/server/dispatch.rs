//! From a seat to an answer: what a thread does with a client that has something to ask.

use std::time::Duration;

use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::{ReplyBuffer, Request, RequestFd};
use scsi_pr::Status;

use std::sync::Arc;

use super::Server;
use super::connections::Seat;
use super::deferred::{Deferred, Stalled};
use super::sync::atomic::Ordering;
use super::sync::{lock, thread};
use crate::command::command_log;
use crate::command::executor::{CommandExecutor, CommandResult};
use crate::command::peer::Peer;
use crate::command::request_device::LimitKey;
use crate::server::session::{Served, Wait};

/// How many requests of one client a thread serves that may not stay with it. A client that never pauses would
/// keep the thread from others. The model is to come to the end of it.
const MOST_IN_A_ROW: u32 = if cfg!(shuttle) { 1 } else { 16 };

/// How long a thread rests before the kernel is asked again for memory that it did not have.
const WITHOUT_MEMORY: Duration = Duration::from_millis(50);

impl<E: CommandExecutor> Server<E> {
    /// Serves the connection at `place` in the table until it has to wait.
    pub(super) fn serve(&self, place: usize, reply: &mut ReplyBuffer, may_block: bool) {
        let Some(seat) = lock(&self.table).get(place) else {
            return;
        };
        if !may_block && self.is_stalled(&seat) {
            let wait = lock(&seat.session).wait();
            return self.deferred.stall(Stalled { place, seat, wait });
        }
        self.serving.fetch_add(1, Ordering::SeqCst);
        seat.is_to_read.store(false, Ordering::SeqCst);
        let wait = self.serve_until_wait(&seat, reply, may_block);
        if matches!(wait, Wait::Rest | Wait::Writable) {
            self.overdue.note(&seat.begun);
        }
        if wait == Wait::Memory {
            thread::sleep(WITHOUT_MEMORY);
        }
        // Stored before another thread can be woken for the connection.
        let is_to_read = wait == Wait::Writable;
        seat.is_to_read.store(is_to_read, Ordering::SeqCst);
        let is_over = match wait {
            Wait::Over => true,
            // The session is unlocked by now, because the thread that is woken locks it.
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
        // Another thread may have ended the connection, and this be the last one that has it.
        self.release(seat, may_block);
        self.serving.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns whether the connection is not read while no thread can be started, because what it
    /// sends could not be closed.
    fn is_stalled(&self, seat: &Seat) -> bool {
        seat.has_deferred_fd.load(Ordering::SeqCst) || self.deferred.is_full()
    }

    /// Serves request after request. Returns what to wait for then.
    fn serve_until_wait(&self, seat: &Arc<Seat>, reply: &mut ReplyBuffer, may_block: bool) -> Wait {
        let mut session = lock(&seat.session);
        if seat.begun.is_given_up() {
            session.give_up();
            return Wait::Over;
        }
        let stay = may_block.then(|| self.crew.stay()).flatten();
        let mut mode = match may_block {
            true => ReceiveMode::NoWait,
            false => ReceiveMode::NeverBlock,
        };
        let mut in_a_row = 0;
        loop {
            // A request that is not read now, or read and not begun, finds its connection closed.
            if self.stopping.load(Ordering::SeqCst) {
                return Wait::Over;
            }
            let owed_reply = session.wait() == Wait::Writable;
            let mut is_late = false;
            let served = session.serve(mode, reply, |client, request, data| {
                is_late = !seat.begun.finish();
                if is_late {
                    self.close_device(seat, request.fd, may_block);
                    return None;
                }
                self.run(seat, client, request, data, may_block)
            });
            let has_finished = match served {
                Served::Handshake => true,
                // The client has read the reply that it was waited for. What it has begun since
                // then has a time limit of its own.
                Served::Nothing(Wait::Readable | Wait::Rest) => owed_reply,
                Served::Request | Served::Nothing(_) => false,
            };
            if is_late || (has_finished && !seat.begun.finish()) {
                session.give_up();
                return Wait::Over;
            }
            match served {
                Served::Handshake => {}
                // A client that has sent one request sends another soon.
                Served::Request if stay.is_some() => mode = ReceiveMode::Wait,
                Served::Request if may_block && in_a_row < MOST_IN_A_ROW => in_a_row += 1,
                // Yields to other connections. If this thread may not block, the thread that is
                // woken for the next request may find another one.
                Served::Request => return session.wait(),
                Served::Nothing(wait) => return wait,
            }
        }
    }

    /// Executes one request, or answers BUSY if the command could leave no thread for the other
    /// clients. Returns `None` if no command may begin any more.
    fn run(
        &self,
        seat: &Arc<Seat>,
        client: &Peer,
        request: Request,
        data: &mut [u8],
        may_block: bool,
    ) -> Option<CommandResult> {
        if self.stopping.load(Ordering::SeqCst) {
            self.close_device(seat, request.fd, may_block);
            return None;
        }
        if !may_block {
            // The device is not even looked at, because that can block as well.
            command_log::rejected_unopened(client, "no thread can be started");
            self.close_device(seat, request.fd, may_block);
            return Some(CommandResult::from_status(Status::BUSY));
        }
        let target = self.executor.inspect(&request);
        let _place = match target.limit_key {
            None => None,
            Some(key) => match self.devices.enter(key) {
                None => return Some(self.refuse_crowd(client, &request, key)),
                place => place,
            },
        };
        let pending = command_log::start(client, &request, target.id);
        let outcome = self.executor.execute(client, &request, &target, data);
        pending.end(client, &request, &outcome);
        // Closing the device can take as long as a command, and the command counts until then.
        drop(request);
        Some(outcome)
    }

    /// Closes the device of a request, or defers that to a thread that may block.
    fn close_device(&self, seat: &Arc<Seat>, device: RequestFd, may_block: bool) {
        match device {
            RequestFd::Open(descriptor) if !may_block => {
                seat.has_deferred_fd.store(true, Ordering::SeqCst);
                let seat = Arc::clone(seat);
                self.deferred.push(Deferred::Descriptor(descriptor, seat));
            }
            device => drop(device),
        }
    }

    /// Answers BUSY: as many commands wait for this device as may take threads from other devices.
    fn refuse_crowd(&self, client: &Peer, request: &Request, key: LimitKey) -> CommandResult {
        if let Some(suppressed) = self.no_place.should_log(client.process_key()) {
            log::warn!(
                "{client}: command answered with BUSY: no more commands may be in progress for \
                 {key} (--max-commands-per-device){suppressed}"
            );
        }
        command_log::rejected(
            client,
            request,
            "the device has too many commands in progress",
        );
        CommandResult::from_status(Status::BUSY)
    }
}
