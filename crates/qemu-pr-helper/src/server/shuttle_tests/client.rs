// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server under test and its clients, each of which runs in a thread of its own.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::panicking;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use pr_helper_protocol::wire::{CDB_SIZE, FEATURES_SIZE, RESPONSE_SIZE};
use scsi_pr::Status;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread::{JoinHandle, spawn};

use super::device::TestDevice;
use super::sync::{SpawnFailure, fail_spawn};
use crate::cli::Limits;
use crate::server::Server;
use crate::server::epoll::EpollSet;
use crate::server::listener::Listener;
use crate::server::request_timeout::TimeoutScanner;

/// A running server, its device and its address.
#[derive(Clone, Debug)]
pub(super) struct Harness {
    pub(super) server: Arc<Server<TestDevice>>,
    pub(super) device: TestDevice,
    address: SocketAddr,
}

/// A client, which disconnects when it is dropped. The fields are dropped in this order.
#[derive(Debug)]
pub(super) struct TestClient {
    socket: UnixStream,
    notifier: Notifier,
    /// Received bytes that were not looked at.
    received: Vec<u8>,
    is_closed: bool,
}

#[derive(Debug)]
struct Notifier(Arc<Server<TestDevice>>);

impl Drop for Notifier {
    fn drop(&mut self) {
        if !panicking() {
            self.0.epoll.notify();
        }
    }
}

/// A reply, without its sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: Status,
    pub(super) data_len: usize,
}

impl Harness {
    /// Starts a server for `max_clients`.
    pub(super) fn start(max_clients: u64) -> Self {
        Self::start_with(max_clients, |_| {})
    }

    /// Starts a server for which every request takes too long.
    pub(super) fn start_with_zero_timeout(max_clients: u64) -> Self {
        Self::start_with(max_clients, |server| {
            server.timeouts = TimeoutScanner::new(Duration::ZERO).unwrap();
            let (acceptor, heartbeat) = (&server.acceptor, &server.heartbeat);
            server.epoll = EpollSet::new(acceptor, &server.timeouts, heartbeat).unwrap();
        })
    }

    fn start_with(max_clients: u64, change: impl FnOnce(&mut Server<TestDevice>)) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fail_spawn(SpawnFailure::Never);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("qemu-pr-helper-shuttle-{}-{count}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let listener = Listener::inherit(listener.into()).unwrap();
        let device = TestDevice::new(max_clients);
        let mut server = Server::new(
            listener,
            device.clone(),
            None,
            &Arc::default(),
            &Limits::default(),
        )
        .unwrap();
        // One worker lingers, the others serve few requests in a turn: schedules have to end.
        server.threads.max_lingering = 1;
        server.dispatcher.max_requests_per_turn = 1;
        change(&mut server);
        let server = Arc::new(server);
        server.start().unwrap();
        Self {
            server,
            device,
            address,
        }
    }

    /// Runs `work` in a thread for each of `items`.
    pub(super) fn spawn<I, T: Send + 'static>(
        &self,
        items: I,
        work: fn(&Self, I::Item) -> T,
    ) -> Vec<JoinHandle<T>>
    where
        I: IntoIterator<Item: Send + 'static>,
    {
        let run = |item| {
            let harness = self.clone();
            spawn(move || work(&harness, item))
        };
        items.into_iter().map(run).collect()
    }

    /// Connects, without waiting for the greeting.
    pub(super) fn connect(&self) -> TestClient {
        let socket = UnixStream::connect_addr(&self.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.server.epoll.notify();
        TestClient {
            socket,
            notifier: Notifier(Arc::clone(&self.server)),
            received: Vec::new(),
            is_closed: false,
        }
    }

    /// Connects, and answers the greeting.
    pub(super) fn client(&self) -> TestClient {
        let mut client = self.connect();
        assert!(client.receive_greeting());
        client.send_features();
        client
    }
}

impl TestClient {
    /// Waits for the greeting. Returns false if the connection is closed instead.
    pub(super) fn receive_greeting(&mut self) -> bool {
        self.receive(FEATURES_SIZE).is_some()
    }

    pub(super) fn send_features(&mut self) {
        self.send_bytes(&[0; FEATURES_SIZE]);
    }

    /// Sends a random part of a command, with its descriptor. Returns the rest, which can be empty.
    pub(super) fn send_part(&self, action: u8, length: u16) -> Vec<u8> {
        let cdb = cdb(action, length);
        let (first, rest) = cdb.split_at(thread_rng().gen_range(1..=cdb.len()));
        self.send_with_fd(first);
        rest.into()
    }

    pub(super) fn send_rest(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.send_bytes(rest);
        }
    }

    pub(super) fn send(&mut self, action: u8, length: u16) {
        let rest = self.send_part(action, length);
        self.send_rest(&rest);
    }

    /// Sends bytes. An error is ignored, because no reply arrives then.
    fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
        self.notifier.0.epoll.notify();
    }

    fn send_with_fd(&self, bytes: &[u8]) {
        let null = File::open("/dev/null").unwrap();
        let _ = fd_passing::send(self.socket.as_fd(), bytes, null.as_fd());
        self.notifier.0.epoll.notify();
    }

    /// Waits for a reply; `None` if the connection is closed instead.
    pub(super) fn receive_reply(&mut self) -> Option<Reply> {
        let head = self.receive(RESPONSE_SIZE)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let data_len = usize::try_from(word(4)).unwrap();
        let data = self.receive(data_len)?;
        assert!(data.iter().all(|byte| *byte == 1));
        Some(Reply {
            status: Status(u8::try_from(word(0)).unwrap()),
            data_len,
        })
    }

    /// Sends a command for `length` bytes and waits for the reply.
    pub(super) fn request(&mut self, action: u8, length: u16) -> Status {
        self.send(action, length);
        self.receive_status(length)
    }

    /// Sends a command in one part and waits for the reply.
    pub(super) fn request_unsplit(&mut self, action: u8, length: u16) -> Status {
        self.send_with_fd(&cdb(action, length));
        self.receive_status(length)
    }

    /// Sends a command and waits for the reply, which can be BUSY.
    pub(super) fn request_good_or_busy(&mut self, action: u8, length: u16) -> Status {
        let status = self.request(action, length);
        assert!([Status::GOOD, Status::BUSY].contains(&status));
        status
    }

    fn receive_status(&mut self, length: u16) -> Status {
        let reply = self.receive_reply().expect("the connection is open");
        if reply.status == Status::GOOD {
            assert_eq!(reply.data_len, usize::from(length));
        }
        reply.status
    }

    /// Waits for `count` bytes; `None` if the connection ends before.
    fn receive(&mut self, count: usize) -> Option<Vec<u8>> {
        let server = Arc::clone(&self.notifier.0);
        while self.received.len() < count && !self.is_closed {
            server.epoll.wait_until(|| self.try_read());
            // The socket has room for more.
            server.epoll.notify();
        }
        let is_complete = self.received.len() >= count;
        is_complete.then(|| self.received.drain(..count).collect())
    }

    /// Reads what has arrived; `None` if nothing has.
    fn try_read(&mut self) -> Option<()> {
        let mut buffer = [0; 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            // The server closed the connection with bytes of the client unread.
            Err(_) => self.is_closed = true,
        }
        Some(())
    }
}

/// Returns the CDB of PERSISTENT RESERVE IN.
fn cdb(action: u8, length: u16) -> [u8; CDB_SIZE] {
    let [high, low] = length.to_be_bytes();
    [0x5e, action, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]
}
