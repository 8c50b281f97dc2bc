//! The model's clients, each in a thread of its own.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use pr_helper_protocol::wire::{CDB_SIZE, FEATURES_SIZE, RESPONSE_SIZE};
use scsi_pr::Status;
use shuttle::rand::{Rng as _, thread_rng};

use super::device::Device;
use super::sync::thread::{Refused, refuse};
use crate::cli::Limits;
use crate::server::Server;
use crate::server::epoll::Poll;
use crate::server::listener::Listener;
use crate::server::request_timeout::Overdue;

/// The engine, and where it listens.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) engine: Arc<Server<Device>>,
    pub(super) device: Device,
    address: SocketAddr,
}

/// A client. Whoever has one lets it [leave](Self::leave).
#[derive(Debug)]
pub(super) struct Guest {
    running: Running,
    socket: UnixStream,
    /// What has come and was not looked at.
    received: Vec<u8>,
    is_closed: bool,
}

/// What came for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) length: usize,
}

impl Running {
    /// An engine that has room for so many clients.
    pub(super) fn start(room: u64) -> Self {
        Self::start_changed(room, |_| {})
    }

    /// An engine for which all that is begun takes too long.
    pub(super) fn start_impatient(room: u64) -> Self {
        Self::start_changed(room, |engine| {
            engine.overdue = Overdue::new(Duration::ZERO).unwrap();
            engine.poll = Poll::new(&engine.door, &engine.overdue, &engine.beat).unwrap();
        })
    }

    fn start_changed(room: u64, change: impl FnOnce(&mut Server<Device>)) -> Self {
        refuse(Refused::Never);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("qemu-pr-helper-model-{}-{count}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let listener = Listener::inherit(listener.into()).unwrap();
        let device = Device::new(room);
        let mut engine = Server::new(listener, device.clone(), None, &Limits::default()).unwrap();
        change(&mut engine);
        let engine = Arc::new(engine);
        engine.start().unwrap();
        Self {
            engine,
            device,
            address,
        }
    }

    /// Connects, without waiting for anything.
    pub(super) fn arrive(&self) -> Guest {
        let socket = UnixStream::connect_addr(&self.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.engine.poll.stir();
        Guest {
            running: self.clone(),
            socket,
            received: Vec::new(),
            is_closed: false,
        }
    }

    /// A client that was greeted and has answered that.
    pub(super) fn guest(&self) -> Guest {
        let mut guest = self.arrive();
        assert!(guest.is_greeted());
        guest.agree();
        guest
    }
}

impl Guest {
    /// Waits until it is greeted; false if it is sent away.
    pub(super) fn is_greeted(&mut self) -> bool {
        self.receive(FEATURES_SIZE).is_some()
    }

    /// Answers the greeting.
    pub(super) fn agree(&mut self) {
        // Whoever is sent away notices when nothing comes.
        let _ = self.socket.write_all(&[0; FEATURES_SIZE]);
        self.stir();
    }

    /// Begins to send a command that asks for so many bytes. Gives what is left of it, which may be nothing.
    pub(super) fn begin(&self, action: u8, length: u16) -> Vec<u8> {
        let cdb = cdb(action, length);
        let (first, rest) = cdb.split_at(thread_rng().gen_range(1..=cdb.len()));
        self.send_piece(first);
        rest.into()
    }

    /// Sends what is left of a command.
    pub(super) fn finish(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            // As above.
            let _ = self.socket.write_all(rest);
            self.stir();
        }
    }

    /// Sends a command, in one piece or in two.
    pub(super) fn send(&mut self, action: u8, length: u16) {
        let rest = self.begin(action, length);
        self.finish(&rest);
    }

    fn send_piece(&self, bytes: &[u8]) {
        let null = File::open("/dev/null").unwrap();
        // As above.
        let _ = fd_passing::send(self.socket.as_fd(), bytes, null.as_fd());
        self.stir();
    }

    /// Waits for an answer; `None` if the connection was closed instead.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let head = self.receive(RESPONSE_SIZE)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let length = usize::try_from(word(4)).unwrap();
        let data = self.receive(length)?;
        assert!(data.iter().all(|byte| *byte == 1));
        Some(Answer {
            status: Status(u8::try_from(word(0)).unwrap()),
            length,
        })
    }

    /// Sends a command and waits for its answer.
    pub(super) fn ask(&mut self, action: u8, length: u16) -> Status {
        self.send(action, length);
        self.status(length)
    }

    /// As [`Self::ask`], in one piece.
    pub(super) fn ask_at_once(&mut self, action: u8, length: u16) -> Status {
        self.send_piece(&cdb(action, length));
        self.status(length)
    }

    fn status(&mut self, length: u16) -> Status {
        let answer = self.answer().expect("the connection lives");
        if answer.status == Status::GOOD {
            assert_eq!(answer.length, usize::from(length));
        }
        answer.status
    }

    /// Closes its end, whatever has been sent.
    pub(super) fn leave(self) {
        drop(self.socket);
        self.running.engine.poll.stir();
    }

    fn stir(&self) {
        self.running.engine.poll.stir();
    }

    /// Waits until so many bytes have come; `None` if the connection ends before.
    fn receive(&mut self, count: usize) -> Option<Vec<u8>> {
        let engine = Arc::clone(&self.running.engine);
        while self.received.len() < count && !self.is_closed {
            engine.poll.until(|| self.look());
            // There is room for more.
            self.stir();
        }
        let is_complete = self.received.len() >= count;
        is_complete.then(|| self.received.drain(..count).collect())
    }

    /// Takes what there is, if there is something.
    fn look(&mut self) -> Option<()> {
        let mut buffer = [0; 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            // Closed while something was unread.
            Err(_) => self.is_closed = true,
        }
        Some(())
    }
}

/// PERSISTENT RESERVE IN.
fn cdb(action: u8, length: u16) -> [u8; CDB_SIZE] {
    let [high, low] = length.to_be_bytes();
    [0x5e, action, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]
}
