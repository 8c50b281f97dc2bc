//! The end: clients can send nothing any more, and are answered what they have sent.
//!
//! If their connections were just closed, a command that was sent a moment before would be lost. A guest is told then
//! that it has failed, as QEMU cannot know whether it was executed. A command that could not be sent is another thing:
//! QEMU connects to the next helper and sends it there.

use std::time::{Duration, Instant};

use super::Server;
use super::connections::Seat;
use super::sync::atomic::Ordering;
use super::sync::{lock, thread};
use crate::command::executor::CommandExecutor;

impl<E: CommandExecutor> Server<E> {
    /// Lets no client in any more and none send, and waits until what they have sent is answered, but no longer than
    /// `patience`. After that no command begins. Gives how many are not answered.
    pub fn stop(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let pause = || thread::sleep(Duration::from_millis(1));
        self.closing.store(true, Ordering::SeqCst);
        for seat in lock(&self.table).seats() {
            self.hear_out(seat);
        }
        // Who has sent nothing leaves by that.
        while !self.is_heard_out() && Instant::now() < deadline {
            pause();
        }
        self.stopping.store(true, Ordering::SeqCst);
        loop {
            let serving = self.serving.load(Ordering::SeqCst);
            if serving == 0 || Instant::now() >= deadline {
                return serving;
            }
            pause();
        }
    }

    /// Lets a client send nothing more. Whoever waits for it is woken, to read what is left, and then its end.
    pub(super) fn hear_out(&self, seat: &Seat) {
        if let Err(error) = self.poll.hear_out(&seat.socket) {
            log::info!("a client is gone before it was heard out: {error}");
        }
    }

    /// Whether there is nobody left but those who do not read what they are answered: for them nobody waits.
    fn is_heard_out(&self) -> bool {
        lock(&self.table)
            .seats()
            .all(|seat| seat.is_to_read.load(Ordering::SeqCst))
    }
}
