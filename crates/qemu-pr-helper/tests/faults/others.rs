//! Clients in another process, as a helper tells clients apart by theirs: this program, started again.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use pr_helper_protocol::fd_passing;

use crate::attack;
use crate::client::Client;

/// What the program is started with to be such a process.
pub(crate) const OPTION: &str = "--clients";

/// What such a process does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Has so many clients, who do nothing once they are greeted, until the process is killed.
    Stay(u32),
    /// Attacks the helper for so many seconds.
    Attack(u32),
    /// Has so many clients, who are greeted, and gives their connections to the process that listens
    /// at `connections` beside the helper's socket.
    Give(u32),
    /// Has so many clients at once, each of which connects, asks and leaves so often.
    Storm(u32, u32),
}

/// Such a process. Killed with the value.
pub(crate) struct Others {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Others {
    pub(crate) fn start(socket: &Path, task: Task) -> Self {
        let (name, numbers) = match task {
            Task::Stay(clients) => ("stay", [clients, 0]),
            Task::Attack(seconds) => ("attack", [seconds, 0]),
            Task::Give(clients) => ("give", [clients, 0]),
            Task::Storm(clients, times) => ("storm", [clients, times]),
        };
        let mut child = Command::new(env::current_exe().unwrap())
            .args([OPTION, name])
            .arg(socket)
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// Waits until it has done what it does: until they are all there, or have all left.
    #[track_caller]
    pub(crate) fn is_done(&mut self) {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program does as such a process.
pub(crate) fn run(arguments: &[&str]) {
    let [name, socket, clients, times] = *arguments else {
        panic!("{arguments:?}");
    };
    let socket = Path::new(socket);
    let (clients, times): (u32, u32) = (clients.parse().unwrap(), times.parse().unwrap());
    match name {
        "stay" => {
            let clients: Vec<_> = (0..clients).map(|_| Client::connect(socket)).collect();
            let clients: Vec<_> = clients.into_iter().map(Client::greeted).collect();
            println!("done");
            // Until it is killed: nothing ever comes from the first one.
            let mut first = &clients.first().unwrap().0;
            first.set_read_timeout(None).unwrap();
            let _ = first.read(&mut [0]);
        }
        "attack" => attack::run(socket, clients),
        "give" => {
            let receiver = UnixStream::connect(socket.with_file_name("connections")).unwrap();
            for _ in 0..clients {
                let client = Client::connect(socket).greeted();
                fd_passing::send(receiver.as_fd(), &[0], client.0.as_fd()).unwrap();
            }
        }
        "storm" => {
            thread::scope(|scope| {
                for _ in 0..clients {
                    scope.spawn(|| {
                        for _ in 0..times {
                            Client::connect(socket).greeted().is_served();
                        }
                    });
                }
            });
            println!("done");
        }
        _ => panic!("{name}"),
    }
}
