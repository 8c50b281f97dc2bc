// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server with devices that hang: a hung command delays only its own client.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::{Client, Request, Response, fd_passing};
use pr_testkit::cdb::{self, PrCommand};
use pr_testkit::{TEST_TIMEOUT, TestClient, eventually};
use qemu_pr_helper::cli::Limits;
use qemu_pr_helper::command::executor::{CommandExecutor, CommandResult};
use qemu_pr_helper::command::peer::Peer;
use qemu_pr_helper::command::request_device::RequestDevice;
use qemu_pr_helper::server::Server;
use qemu_pr_helper::server::listener::Listener;
use rustix::net::sockopt::set_socket_linger;
use scsi_pr::Status;

/// Returns the command that the test's device completes at once.
fn read() -> PrCommand {
    cdb::read_keys(8)
}

/// Returns the command at which the test's device hangs.
fn hanging() -> PrCommand {
    cdb::report_capabilities(8)
}

/// A device that hangs at some commands until they are released.
#[derive(Clone, Default)]
struct Device {
    /// The number of commands that hang, and whether they are released.
    state: Arc<(Mutex<(usize, bool)>, Condvar)>,
    /// Calls of `disconnected`, with their flag.
    disconnected: Arc<Mutex<Vec<bool>>>,
    /// True if `disconnected` hangs until commands are released, unless it must not block.
    hangs_at_disconnect: Arc<AtomicBool>,
}

impl Device {
    fn wait_until_hanging(&self, count: usize) {
        let (state, changed) = &*self.state;
        let hanging = |state: &mut (usize, bool)| state.0 < count;
        let (state, waited) = changed
            .wait_timeout_while(state.lock().unwrap(), TEST_TIMEOUT, hanging)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{} of {count} commands are at the device",
            state.0
        );
    }

    /// Waits until the commands are released.
    fn wait_for_release(&self) {
        let (state, changed) = &*self.state;
        let state = state.lock().unwrap();
        drop(changed.wait_while(state, |state| !state.1).unwrap());
    }

    fn wait_for_disconnects(&self, expected: &[bool]) {
        eventually("calls of `disconnected`", || {
            (*self.disconnected.lock().unwrap() == expected).then_some(())
        });
    }

    fn release_all(&self) {
        let (state, changed) = &*self.state;
        state.lock().unwrap().1 = true;
        changed.notify_all();
    }
}

impl CommandExecutor for Device {
    fn execute(
        &self,
        _: &Peer,
        request: &Request,
        _: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult {
        if *request.command.cdb() == hanging().cdb {
            let (state, changed) = &*self.state;
            let mut state = state.lock().unwrap();
            state.0 += 1;
            changed.notify_all();
            drop(state);
            self.wait_for_release();
        }
        data.fill(7);
        CommandResult {
            data_len: data.len(),
            ..CommandResult::from_status(Status::GOOD)
        }
    }

    fn disconnected(&self, _: &Peer, may_block: bool) {
        self.disconnected.lock().unwrap().push(may_block);
        if may_block && self.hangs_at_disconnect.load(Ordering::SeqCst) {
            self.wait_for_release();
        }
    }
}

/// A running server, its device and its socket.
struct Fixture {
    server: Arc<Server<Device>>,
    device: Device,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

fn start() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let device = Device::default();
    let (listener, file) = Listener::bind(&socket).unwrap();
    let server = Server::new(
        listener,
        device.clone(),
        None,
        &Arc::default(),
        &Limits::default(),
    );
    let server = Arc::new(server.unwrap());
    server.start().unwrap();
    // The directory is removed, and the socket with it.
    std::mem::forget(file);
    Fixture {
        server,
        device,
        socket,
        _dir: dir,
    }
}

impl Fixture {
    fn client(&self) -> Client {
        let socket = UnixStream::connect(&self.socket).unwrap();
        // A client that is not served fails the test.
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Client::negotiate(socket).unwrap()
    }

    /// Starts `count` clients with commands that hang, and waits until they do.
    fn hang(&self, count: usize) -> Vec<JoinHandle<Option<Response>>> {
        let threads = (0..count).map(|_| {
            let mut client = self.client();
            thread::spawn(move || execute(&mut client, &hanging()))
        });
        let threads = threads.collect();
        self.device.wait_until_hanging(count);
        threads
    }
}

fn execute(client: &mut Client, command: &PrCommand) -> Option<Response> {
    let null = File::open("/dev/null").unwrap();
    client.execute(command.cdb, null.as_fd(), &[]).ok()
}

#[test]
fn clients_are_served_while_other_commands_hang() {
    let fixture = start();
    let mut before = fixture.client();
    let hanging = fixture.hang(64);

    let mut after = fixture.client();
    for client in [&mut before, &mut after] {
        for _ in 0..100 {
            assert_eq!(execute(client, &read()).unwrap().data, [7; 8]);
        }
    }

    fixture.device.release_all();
    for thread in hanging {
        assert_eq!(thread.join().unwrap().unwrap().data, [7; 8]);
    }
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
}

#[test]
fn concurrent_clients_get_their_own_replies() {
    let fixture = start();
    let clients = (0..32).map(|_| {
        let mut client = fixture.client();
        thread::spawn(move || {
            for _ in 0..50 {
                assert_eq!(execute(&mut client, &read()).unwrap().status, Status::GOOD);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
}

#[test]
fn shutdown_waits_for_commands_and_starts_none() {
    let fixture = start();
    let mut idle = fixture.client();
    let hanging = fixture.hang(2);
    let server = Arc::clone(&fixture.server);
    let shutdown = thread::spawn(move || server.shutdown(TEST_TIMEOUT));
    // The connection of an idle client is closed as soon as the shutdown begins.
    while execute(&mut idle, &read()).is_some() {}
    fixture.device.release_all();
    assert_eq!(shutdown.join().unwrap(), 0);
    for thread in hanging {
        assert_eq!(thread.join().unwrap().unwrap().data, [7; 8]);
    }
}

#[test]
fn shutdown_replies_to_all_sent_commands() {
    for round in 0..50 {
        let fixture = start();
        let clients = (0..8).map(|_| {
            let mut client = fixture.client();
            thread::spawn(move || {
                let null = File::open("/dev/null").unwrap();
                loop {
                    match client.execute(read().cdb, null.as_fd(), &[]) {
                        Ok(response) => assert_eq!(response.status, Status::GOOD),
                        Err(error) => return error,
                    }
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        thread::sleep(Duration::from_millis(round % 5));
        assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
        for client in clients {
            let error = client.join().unwrap();
            // QEMU sends such a command to the next helper.
            assert!(matches!(error, ClientError::Send(_)), "{error:?}");
        }
    }
}

#[test]
fn shutdown_ignores_clients_that_do_not_read() {
    let fixture = start();
    let client = connect(&fixture);
    client.set_nonblocking(true).unwrap();
    let null = File::open("/dev/null").unwrap();
    // Until there is no room for another reply, and so no request is read.
    let mut failures = 0;
    while failures < 100 {
        match fd_passing::send(client.as_fd(), &read().cdb, null.as_fd()) {
            Ok(()) => failures = 0,
            Err(_) => {
                failures += 1;
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let start = Instant::now();
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
    assert!(start.elapsed() < TEST_TIMEOUT / 2);
    drop(client);
}

#[test]
fn shutdown_times_out() {
    let fixture = start();
    let hanging = fixture.hang(3);
    assert_eq!(fixture.server.shutdown(Duration::from_millis(50)), 3);
    fixture.device.release_all();
    for thread in hanging {
        thread.join().unwrap().unwrap();
    }
}

/// Time that the close of a lingering socket blocks: far longer than a test waits.
const LINGER: Duration = Duration::from_secs(3600);

/// Returns a TCP socket and its peer, which never reads. The last close of the socket blocks until
/// the peer is dropped.
fn lingering_socket() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 65536]).is_ok() {}
    set_socket_linger(&socket, Some(LINGER)).unwrap();
    (socket.into(), peer)
}

/// Passes the last descriptor of a lingering socket to the server, with `bytes`, after which the
/// server must not close the descriptor at once. Returns the peer of that socket.
fn pass_lingering_socket(client: &UnixStream, bytes: &[u8]) -> TcpStream {
    let (socket, peer) = lingering_socket();
    fd_passing::send(client.as_fd(), bytes, socket.as_fd()).unwrap();
    peer
}

/// Connects, and answers the greeting.
fn connect(fixture: &Fixture) -> UnixStream {
    TestClient::connect(&fixture.socket).handshake().stream
}

#[test]
fn blocking_close_delays_no_other_client() {
    let fixture = start();
    let mut before = fixture.client();
    assert!(execute(&mut before, &read()).is_some());
    let mut peers = Vec::new();
    for _ in 0..8 {
        // A client that disconnects within a request, and one that sends an invalid command.
        let client = connect(&fixture);
        peers.push(pass_lingering_socket(&client, &read().cdb[..3]));
        drop(client);
        let mut client = connect(&fixture);
        peers.push(pass_lingering_socket(&client, &[0x12; 15]));
        client.write_all(&[0]).unwrap();
        assert!(execute(&mut before, &read()).is_some());
        assert!(execute(&mut fixture.client(), &read()).is_some());
    }
    drop(peers);
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
}

#[test]
fn disconnect_before_greeting_delays_no_client() {
    let fixture = start();
    let hanging = fixture.hang(1);
    let (socket, peer) = lingering_socket();
    let client = UnixStream::connect(&fixture.socket).unwrap();
    fd_passing::send(client.as_fd(), &[0], socket.as_fd()).unwrap();
    // The last of the two owners blocks in the close, so the test closes it in another thread.
    let other = thread::spawn(move || drop(socket));
    drop(client);
    for _ in 0..8 {
        assert!(execute(&mut fixture.client(), &read()).is_some());
    }
    drop(peer);
    other.join().unwrap();
    fixture.device.release_all();
    hanging
        .into_iter()
        .for_each(|thread| drop(thread.join().unwrap()));
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
}

#[test]
fn executor_is_informed_of_disconnects() {
    let fixture = start();
    let mut remaining = fixture.client();
    for _ in 0..2 {
        assert!(execute(&mut fixture.client(), &read()).is_some());
    }
    fixture.device.wait_for_disconnects(&[true, true]);
    assert!(execute(&mut remaining, &read()).is_some());
    // A shutdown disconnects clients that still run, so nothing follows from that.
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
    fixture.device.wait_for_disconnects(&[true, true, false]);
}

#[test]
fn work_after_a_disconnect_delays_no_client() {
    let fixture = start();
    fixture
        .device
        .hangs_at_disconnect
        .store(true, Ordering::SeqCst);
    for _ in 0..8 {
        assert!(execute(&mut fixture.client(), &read()).is_some());
    }
    fixture.device.wait_for_disconnects(&[true; 8]);
    for _ in 0..8 {
        let mut client = fixture.client();
        assert!(execute(&mut client, &read()).is_some());
        // Not disconnected before the end of the test.
        std::mem::forget(client);
    }
    fixture.device.release_all();
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
}

#[test]
fn heartbeat_is_acked_while_commands_hang() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, _file) = Listener::bind(&dir.path().join("s")).unwrap();
    let not_started = Server::new(
        listener,
        Device::default(),
        None,
        &Arc::default(),
        &Limits::default(),
    )
    .unwrap();
    assert!(not_started.heartbeat());
    assert!(!not_started.heartbeat());

    let fixture = start();
    let hanging = fixture.hang(8);
    for _ in 0..3 {
        eventually("the heartbeat to be acknowledged", || {
            fixture.server.heartbeat().then_some(())
        });
    }
    let load = fixture.server.load();
    assert_eq!(load.to_string(), "8 clients, 8 commands in progress");
    fixture.device.release_all();
    for thread in hanging {
        thread.join().unwrap().unwrap();
    }
}
