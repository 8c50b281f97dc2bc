//! The engine with devices that hang: nobody waits for somebody else's.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::{Client, Request, Response, fd_passing};
use qemu_pr_helper::cli::Limits;
use qemu_pr_helper::command::executor::{CommandExecutor, CommandResult};
use qemu_pr_helper::command::peer;
use qemu_pr_helper::command::request_device::RequestDevice;
use qemu_pr_helper::server::Server;
use qemu_pr_helper::server::listener::Listener;
use rustix::net::sockopt::set_socket_linger;
use scsi_pr::Status;

/// READ KEYS, which the test's device answers at once, and REPORT CAPABILITIES, at which it hangs.
const ANSWERED: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
const HANGING: [u8; 16] = [0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];

/// How long to wait for what has to happen; a machine under load is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device that hangs at some commands until it is let go.
#[derive(Clone, Default)]
struct Device {
    /// How many commands hang, and whether they still do.
    state: Arc<(Mutex<(usize, bool)>, Condvar)>,
}

impl Device {
    fn wait_until_hanging(&self, count: usize) {
        let (state, changed) = &*self.state;
        let hanging = |state: &mut (usize, bool)| state.0 < count;
        let (state, waited) = changed
            .wait_timeout_while(state.lock().unwrap(), PATIENCE, hanging)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{} of {count} commands are at the device",
            state.0
        );
    }

    fn let_go(&self) {
        let (state, changed) = &*self.state;
        state.lock().unwrap().1 = true;
        changed.notify_all();
    }
}

impl CommandExecutor for Device {
    fn execute(
        &self,
        _: &peer::Peer,
        request: &Request,
        _: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult {
        if *request.command.cdb() == HANGING {
            let (state, changed) = &*self.state;
            let mut state = state.lock().unwrap();
            state.0 += 1;
            changed.notify_all();
            drop(changed.wait_while(state, |state| !state.1).unwrap());
        }
        data.fill(7);
        CommandResult {
            data_len: data.len(),
            ..CommandResult::from_status(Status::GOOD)
        }
    }
}

/// A running engine, the device behind it, and where to connect.
struct Running {
    engine: Arc<Server<Device>>,
    device: Device,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let device = Device::default();
    let (listener, _) = Listener::bind(&socket).unwrap();
    let engine = Server::new(listener, device.clone(), None, &Limits::default());
    let engine = Arc::new(engine.unwrap());
    engine.start().unwrap();
    Running {
        engine,
        device,
        socket,
        _folder: folder,
    }
}

impl Running {
    fn client(&self) -> Client {
        let socket = UnixStream::connect(&self.socket).unwrap();
        // Whoever is not served fails the test.
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::negotiate(socket).unwrap()
    }

    /// Has `count` clients send a command that hangs, and waits until they do.
    fn hang(&self, count: usize) -> Vec<JoinHandle<Option<Response>>> {
        let threads = (0..count).map(|_| {
            let mut client = self.client();
            thread::spawn(move || execute(&mut client, HANGING))
        });
        let threads = threads.collect();
        self.device.wait_until_hanging(count);
        threads
    }
}

fn execute(client: &mut Client, cdb: [u8; 16]) -> Option<Response> {
    let null = File::open("/dev/null").unwrap();
    client.execute(cdb, null.as_fd(), &[]).ok()
}

#[test]
fn clients_are_served_while_others_commands_hang() {
    let running = start();
    let mut before = running.client();
    let hanging = running.hang(64);

    let mut after = running.client();
    for client in [&mut before, &mut after] {
        for _ in 0..100 {
            assert_eq!(execute(client, ANSWERED).unwrap().data, [7; 8]);
        }
    }

    running.device.let_go();
    for thread in hanging {
        assert_eq!(thread.join().unwrap().unwrap().data, [7; 8]);
    }
    assert_eq!(running.engine.stop(PATIENCE), 0);
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let running = start();
    let clients = (0..32).map(|_| {
        let mut client = running.client();
        thread::spawn(move || {
            for _ in 0..50 {
                assert_eq!(execute(&mut client, ANSWERED).unwrap().status, Status::GOOD);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    assert_eq!(running.engine.stop(PATIENCE), 0);
}

#[test]
fn stop_answers_commands_in_progress_and_begins_none() {
    let running = start();
    let mut idle = running.client();
    let hanging = running.hang(2);
    let engine = Arc::clone(&running.engine);
    let stopping = thread::spawn(move || engine.stop(PATIENCE));
    // Idle clients find their connection closed as soon as the helper is stopping.
    while execute(&mut idle, ANSWERED).is_some() {}
    running.device.let_go();
    assert_eq!(stopping.join().unwrap(), 0);
    for thread in hanging {
        assert_eq!(thread.join().unwrap().unwrap().data, [7; 8]);
    }
}

#[test]
fn stop_loses_nothing_that_was_sent() {
    for round in 0..50 {
        let running = start();
        let clients = (0..8).map(|_| {
            let mut client = running.client();
            thread::spawn(move || {
                let null = File::open("/dev/null").unwrap();
                loop {
                    match client.execute(ANSWERED, null.as_fd(), &[]) {
                        Ok(response) => assert_eq!(response.status, Status::GOOD),
                        Err(error) => return error,
                    }
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        thread::sleep(Duration::from_millis(round % 5));
        assert_eq!(running.engine.stop(PATIENCE), 0);
        for client in clients {
            let error = client.join().unwrap();
            // QEMU sends it to the next helper.
            assert!(matches!(error, ClientError::Send(_)), "{error:?}");
        }
    }
}

#[test]
fn stop_does_not_wait_for_who_does_not_read() {
    let running = start();
    let client = greeted(&running);
    client.set_nonblocking(true).unwrap();
    let null = File::open("/dev/null").unwrap();
    // Until no answer has room any more, and so no request is read.
    let mut refused = 0;
    while refused < 100 {
        match fd_passing::send(client.as_fd(), &ANSWERED, null.as_fd()) {
            Ok(()) => refused = 0,
            Err(_) => {
                refused += 1;
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let start = Instant::now();
    assert_eq!(running.engine.stop(PATIENCE), 0);
    assert!(start.elapsed() < PATIENCE / 2);
    drop(client);
}

#[test]
fn stop_does_not_wait_for_ever() {
    let running = start();
    let hanging = running.hang(3);
    assert_eq!(running.engine.stop(Duration::from_millis(50)), 3);
    running.device.let_go();
    for thread in hanging {
        thread.join().unwrap().unwrap();
    }
}

/// How long a lingering socket keeps whoever closes it: far longer than a test waits.
const LINGER: Duration = Duration::from_secs(3600);

/// A TCP socket whose last close waits for a peer that never reads, as long as the peer is there.
fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 65536]).is_ok() {}
    set_socket_linger(&socket, Some(LINGER)).unwrap();
    (socket.into(), peer)
}

/// Gives the helper the last descriptor of a lingering socket, with `bytes`, which must not be such
/// that it closes it at once.
fn give_away(client: &UnixStream, bytes: &[u8]) -> TcpStream {
    let (socket, peer) = lingering();
    fd_passing::send(client.as_fd(), bytes, socket.as_fd()).unwrap();
    peer
}

/// A client that is past the handshake.
fn greeted(running: &Running) -> UnixStream {
    let mut client = UnixStream::connect(&running.socket).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    client
}

#[test]
fn closing_a_clients_descriptor_holds_up_nobody_else() {
    let running = start();
    let mut before = running.client();
    assert!(execute(&mut before, ANSWERED).is_some());
    let mut peers = Vec::new();
    for _ in 0..8 {
        // One that goes in the middle of a request, and one whose command is none.
        let client = greeted(&running);
        peers.push(give_away(&client, &ANSWERED[..3]));
        drop(client);
        let mut client = greeted(&running);
        peers.push(give_away(&client, &[0x12; 15]));
        client.write_all(&[0]).unwrap();
        assert!(execute(&mut before, ANSWERED).is_some());
        assert!(execute(&mut running.client(), ANSWERED).is_some());
    }
    drop(peers);
    assert_eq!(running.engine.stop(PATIENCE), 0);
}

#[test]
fn a_client_that_goes_before_it_is_greeted_holds_up_nobody_else() {
    let running = start();
    let hanging = running.hang(1);
    let (socket, peer) = lingering();
    let client = UnixStream::connect(&running.socket).unwrap();
    fd_passing::send(client.as_fd(), &[0], socket.as_fd()).unwrap();
    // Whoever of the two closes it last waits; this must not be the test.
    let other = thread::spawn(move || drop(socket));
    drop(client);
    for _ in 0..8 {
        assert!(execute(&mut running.client(), ANSWERED).is_some());
    }
    drop(peer);
    other.join().unwrap();
    running.device.let_go();
    hanging
        .into_iter()
        .for_each(|thread| drop(thread.join().unwrap()));
    assert_eq!(running.engine.stop(PATIENCE), 0);
}

#[test]
fn threads_are_alive_while_commands_hang_and_not_before_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, _file) = Listener::bind(&folder.path().join("s")).unwrap();
    let unborn = Server::new(listener, Device::default(), None, &Limits::default()).unwrap();
    assert!(unborn.beat());
    assert!(!unborn.beat());

    let running = start();
    let hanging = running.hang(8);
    for _ in 0..3 {
        let end = Instant::now() + PATIENCE;
        while !running.engine.beat() {
            assert!(Instant::now() < end);
            thread::sleep(Duration::from_millis(1));
        }
    }
    let load = running.engine.load();
    assert_eq!(load.to_string(), "8 clients, 8 commands in progress");
    running.device.let_go();
    for thread in hanging {
        thread.join().unwrap().unwrap();
    }
}
