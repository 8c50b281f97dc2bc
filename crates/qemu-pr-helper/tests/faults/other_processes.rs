// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients in another process, because a helper counts by process. It is this program, started
//! again.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use pr_helper_protocol::fd_passing;
use pr_testkit::TestClient;

use crate::attack;

/// Argument that starts the program as such a process.
pub(crate) const CLIENTS_ARG: &str = "--clients";

/// Task of such a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Keeps this number of idle clients until the process is killed.
    Idle(u32),
    /// Attacks the helper for this number of seconds.
    Attack(u32),
    /// Connects this number of clients, and passes their connections to the process that listens at
    /// `connections` beside the helper's socket.
    PassConnections(u32),
    /// Runs this number of concurrent clients. Each connects, sends commands and disconnects this
    /// number of times.
    Burst(u32, u32),
}

/// A process with clients. It is killed on drop.
pub(crate) struct OtherProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl OtherProcess {
    pub(crate) fn start(socket: &Path, task: Task) -> Self {
        let (name, numbers) = match task {
            Task::Idle(clients) => ("idle", [clients, 0]),
            Task::Attack(seconds) => ("attack", [seconds, 0]),
            Task::PassConnections(clients) => ("pass-connections", [clients, 0]),
            Task::Burst(clients, times) => ("burst", [clients, times]),
        };
        let mut child = Command::new(env::current_exe().unwrap())
            .args([CLIENTS_ARG, name])
            .arg(socket)
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// Waits until all clients are connected, or have all disconnected after a burst.
    #[track_caller]
    pub(crate) fn wait_until_done(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program as such a process.
pub(crate) fn run(arguments: &[&str]) {
    let [name, socket, clients, times] = *arguments else {
        panic!("{arguments:?}");
    };
    let socket = Path::new(socket);
    let (clients, times): (u32, u32) = (clients.parse().unwrap(), times.parse().unwrap());
    match name {
        "idle" => {
            let clients: Vec<_> = (0..clients).map(|_| TestClient::connect(socket)).collect();
            let clients: Vec<_> = clients.into_iter().map(TestClient::handshake).collect();
            println!("done");
            // Blocks until the process is killed, because nothing arrives.
            let mut first = &clients.first().unwrap().stream;
            first.set_read_timeout(None).unwrap();
            let _ = first.read(&mut [0]);
        }
        "attack" => attack::run(socket, clients),
        "pass-connections" => {
            let receiver = UnixStream::connect(socket.with_file_name("connections")).unwrap();
            for _ in 0..clients {
                let client = TestClient::connect(socket).handshake();
                fd_passing::send(receiver.as_fd(), &[0], client.stream.as_fd()).unwrap();
            }
        }
        "burst" => {
            thread::scope(|scope| {
                for _ in 0..clients {
                    scope.spawn(|| {
                        for _ in 0..times {
                            TestClient::connect(socket).handshake().assert_served();
                        }
                    });
                }
            });
            println!("done");
        }
        _ => panic!("{name}"),
    }
}
