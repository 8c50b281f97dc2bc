//! A helper as a process, with clients that know which of them they are.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pr_helper_protocol::Response;
use pr_helper_protocol::client::ClientError;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_qemu-pr-helper");

/// How long to wait for what has to happen; a machine under load is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How a helper is to be started.
pub(crate) struct Launch {
    command: Command,
    folder: PathBuf,
}

impl Launch {
    /// In `folder`, where its socket will be, too.
    pub(crate) fn new(folder: &Path) -> Self {
        Self::under(folder, &[])
    }

    /// By another program, which gets the helper's command line behind its own arguments and becomes it.
    pub(crate) fn under(folder: &Path, wrapper: &[&str]) -> Self {
        let mut command = match wrapper {
            [] => Command::new(PROGRAM),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(PROGRAM);
                command
            }
        };
        command.current_dir(folder).stdin(Stdio::null());
        command.arg("-k").arg(folder.join("socket"));
        command.stderr(File::create(folder.join("stderr")).unwrap());
        Self {
            command,
            folder: folder.to_owned(),
        }
    }

    pub(crate) fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Elsewhere than to the file `stderr`.
    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Starts it, and waits until it has greeted client 1.
    pub(crate) fn start(mut self) -> Running {
        let mut running = Running {
            child: self.command.spawn().unwrap(),
            folder: self.folder,
            connected: AtomicU64::new(0),
        };
        // The command keeps its own copies of the streams.
        drop(self.command);
        let socket = running.folder.join("socket");
        let stream = wait_for("the socket", || {
            let status = running.child.try_wait().unwrap();
            assert_eq!(status, None, "{:?}", running.said());
            UnixStream::connect(&socket).ok()
        });
        running.greeted(stream).leave();
        running
    }

    /// Starts it, and waits until it has ended by itself. Its standard error is in the result.
    pub(crate) fn finish(mut self) -> Output {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().unwrap().wait_with_output().unwrap()
    }
}

/// What a helper prints when it is asked to.
pub(crate) fn printed(argument: &str) -> String {
    let output = Command::new(PROGRAM).arg(argument).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// A helper that serves. Killed with the value.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
    connected: AtomicU64,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next client. Those that are made one after the other have their numbers in this order.
    pub(crate) fn client(&self) -> Client {
        self.greeted(UnixStream::connect(self.folder.join("socket")).unwrap())
    }

    fn greeted(&self, stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let number = self.connected.fetch_add(1, Ordering::SeqCst) + 1;
        Client {
            number,
            protocol: pr_helper_protocol::client::Client::negotiate(stream.try_clone().unwrap())
                .unwrap(),
            stream,
        }
    }

    /// How many clients there were.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::SeqCst)
    }

    /// Ends it as a service manager does.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        kill_process(self.process(), Signal::TERM).unwrap();
        wait_for("the helper's end", || self.child.try_wait().unwrap())
    }

    /// What it has written to the file `stderr`, without the warning that it may not do its work.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(self.folder.join("stderr")).unwrap();
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| !line.contains("no CAP_SYS_RAWIO"))
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client after the handshake.
pub(crate) struct Client {
    /// What the helper calls it.
    pub(crate) number: u64,
    protocol: pr_helper_protocol::client::Client,
    stream: UnixStream,
}

impl Client {
    pub(crate) fn ask(&mut self, request: &Request, devices: &Devices) -> Response {
        self.try_ask(request, devices).unwrap()
    }

    pub(crate) fn try_ask(
        &mut self,
        request: &Request,
        devices: &Devices,
    ) -> Result<Response, ClientError> {
        let device = match request.is_read_only {
            true => &devices.read_only,
            false => &devices.writable,
        };
        self.protocol
            .execute(request.cdb(), device.as_fd(), &request.list())
    }

    /// Leaves, and waits until the helper has seen it.
    pub(crate) fn leave(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }
}

/// `/dev/null`, in two ways: no device that knows reservations.
pub(crate) struct Devices {
    read_only: File,
    writable: File,
}

impl Devices {
    pub(crate) fn open() -> Self {
        let mut both = OpenOptions::new();
        both.read(true).write(true);
        Self {
            read_only: File::open("/dev/null").unwrap(),
            writable: both.open("/dev/null").unwrap(),
        }
    }
}

/// One request of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) opcode: u8,
    pub(crate) action: u8,
    pub(crate) scope_type: u8,
    pub(crate) length: u16,
    /// The two keys of OUT.
    pub(crate) keys: [u64; 2],
    pub(crate) is_read_only: bool,
}

pub(crate) const IN: u8 = 0x5e;
pub(crate) const OUT: u8 = 0x5f;

impl Request {
    /// The `index`th request of a client: of four kinds in turn, and like no other near it.
    pub(crate) fn nth(client: u64, index: u64) -> Self {
        let request = Self {
            opcode: OUT,
            action: 0,
            scope_type: 0,
            length: 24,
            keys: [client << 32 | index, !index],
            is_read_only: false,
        };
        let for_in = Self {
            opcode: IN,
            length: 8 + u16::try_from(index % 8000).unwrap(),
            keys: [0; 2],
            ..request
        };
        match index % 4 {
            0 => for_in,
            1 => request,
            2 => Self {
                action: 2,
                ..for_in
            },
            // RESERVE, write exclusive, by a descriptor that cannot be written to.
            _ => Self {
                action: 1,
                scope_type: 1,
                is_read_only: true,
                ..request
            },
        }
    }

    fn cdb(&self) -> [u8; 16] {
        let [high, low] = self.length.to_be_bytes();
        let Self {
            opcode,
            action,
            scope_type,
            ..
        } = *self;
        [
            opcode, action, scope_type, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0,
        ]
    }

    fn list(&self) -> Vec<u8> {
        if self.opcode == IN {
            return Vec::new();
        }
        let [key, action_key] = self.keys;
        let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
        list.resize(usize::from(self.length), 0);
        list
    }
}

/// As many requests by each of so many clients at once, which all leave at the end. Their first number.
pub(crate) fn load(running: &Running, clients: u64, requests: u64) -> u64 {
    let clients: Vec<_> = (0..clients).map(|_| running.client()).collect();
    let first = clients.first().unwrap().number;
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                let devices = Devices::open();
                for index in 0..requests {
                    let request = Request::nth(client.number, index);
                    let answer = client.ask(&request, &devices);
                    assert_eq!(answer.status.0, 2, "CHECK CONDITION is what /dev/null says");
                }
                client.leave();
            });
        }
    });
    first
}
