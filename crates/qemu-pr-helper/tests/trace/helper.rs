//! A helper process and its clients.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
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

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_qemu-pr-helper");

/// Timeout for every expected event. It is long, because the machine can be under load.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Polls `condition` until it returns a value. `description` is for the panic message.
pub(crate) fn wait_until<T>(description: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "timed out: {description}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Builder for a [`Helper`].
pub(crate) struct HelperCommand {
    command: Command,
    dir: PathBuf,
}

impl HelperCommand {
    /// Creates a command that runs the helper in `dir`, with its socket there.
    pub(crate) fn new(dir: &Path) -> Self {
        Self::with_wrapper(dir, &[])
    }

    /// Creates a command that runs `wrapper` with the helper's command line appended. The wrapper
    /// must execute that command line in its own process.
    pub(crate) fn with_wrapper(dir: &Path, wrapper: &[&str]) -> Self {
        let mut command = match wrapper {
            [] => Command::new(HELPER),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(HELPER);
                command
            }
        };
        command.current_dir(dir).stdin(Stdio::null());
        command.arg("-k").arg(dir.join("socket"));
        command.stderr(File::create(dir.join("stderr")).unwrap());
        Self {
            command,
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Redirects standard error, which is the file `stderr` by default.
    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Starts the helper and waits until client 1 has negotiated.
    pub(crate) fn start(mut self) -> Helper {
        let mut helper = Helper {
            child: self.command.spawn().unwrap(),
            dir: self.dir,
            connected: AtomicU64::new(0),
        };
        // The command holds copies of the redirected streams.
        drop(self.command);
        let socket = helper.dir.join("socket");
        let stream = wait_until("socket of the helper", || {
            let status = helper.child.try_wait().unwrap();
            assert_eq!(status, None, "{:?}", helper.stderr());
            UnixStream::connect(&socket).ok()
        });
        helper.negotiate(stream).disconnect();
        helper
    }

    /// Runs the helper until it exits by itself. Captures standard output and error.
    pub(crate) fn finish(mut self) -> Output {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().unwrap().wait_with_output().unwrap()
    }
}

/// Returns the standard output of the helper with this argument.
pub(crate) fn helper_output(argument: &str) -> String {
    let output = Command::new(HELPER).arg(argument).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// A running helper. It is killed when the value is dropped.
pub(crate) struct Helper {
    child: Child,
    dir: PathBuf,
    connected: AtomicU64,
}

impl Helper {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Connects the next client. The helper numbers clients in the order of these calls.
    pub(crate) fn connect(&self) -> Client {
        self.negotiate(UnixStream::connect(self.dir.join("socket")).unwrap())
    }

    fn negotiate(&self, stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let number = self.connected.fetch_add(1, Ordering::SeqCst) + 1;
        Client {
            number,
            protocol: pr_helper_protocol::client::Client::negotiate(stream.try_clone().unwrap())
                .unwrap(),
            stream,
        }
    }

    /// Returns the number of clients so far.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::SeqCst)
    }

    /// Sends SIGTERM, as a service manager does, and waits until the helper exits.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        kill_process(self.process(), Signal::TERM).unwrap();
        wait_until("exit of the helper", || self.child.try_wait().unwrap())
    }

    /// Returns the content of the file `stderr`, without the warning about the missing capability.
    pub(crate) fn stderr(&self) -> String {
        let text = fs::read_to_string(self.dir.join("stderr")).unwrap();
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| !line.contains("no CAP_SYS_RAWIO"))
            .collect()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The helper still runs if the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that has negotiated.
pub(crate) struct Client {
    /// Number of the client in the log of the helper.
    pub(crate) number: u64,
    protocol: pr_helper_protocol::client::Client,
    stream: UnixStream,
}

impl Client {
    pub(crate) fn execute(&mut self, request: &Request, devices: &Devices) -> Response {
        self.try_execute(request, devices).unwrap()
    }

    pub(crate) fn try_execute(
        &mut self,
        request: &Request,
        devices: &Devices,
    ) -> Result<Response, ClientError> {
        let device = match request.is_read_only {
            true => &devices.read_only,
            false => &devices.writable,
        };
        self.protocol
            .execute(request.cdb(), device.as_fd(), &request.parameter_list())
    }

    /// Disconnects and waits until the helper has closed the connection.
    pub(crate) fn disconnect(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }
}

/// File descriptors of `/dev/null`, a device without reservations.
pub(crate) struct Devices {
    read_only: File,
    writable: File,
}

impl Devices {
    pub(crate) fn open() -> Self {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        Self {
            read_only: File::open("/dev/null").unwrap(),
            writable: options.open("/dev/null").unwrap(),
        }
    }
}

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) opcode: u8,
    pub(crate) action: u8,
    pub(crate) scope_type: u8,
    pub(crate) length: u16,
    /// The two keys in the parameter list of PERSISTENT RESERVE OUT.
    pub(crate) keys: [u64; 2],
    pub(crate) is_read_only: bool,
}

pub(crate) const IN: u8 = 0x5e;
pub(crate) const OUT: u8 = 0x5f;

impl Request {
    /// Returns the request number `index` of a client. The four kinds of requests take turns, and
    /// keys and lengths tell apart requests that are close to each other.
    pub(crate) fn nth(client: u64, index: u64) -> Self {
        let request = Self {
            opcode: OUT,
            action: 0,
            scope_type: 0,
            length: 24,
            keys: [client << 32 | index, !index],
            is_read_only: false,
        };
        let request_in = Self {
            opcode: IN,
            length: 8 + u16::try_from(index % 8000).unwrap(),
            keys: [0; 2],
            ..request
        };
        match index % 4 {
            0 => request_in,
            1 => request,
            2 => Self {
                action: 2,
                ..request_in
            },
            // RESERVE, write exclusive, through a read-only descriptor.
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

    fn parameter_list(&self) -> Vec<u8> {
        if self.opcode == IN {
            return Vec::new();
        }
        let [key, action_key] = self.keys;
        let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
        list.resize(usize::from(self.length), 0);
        list
    }
}

/// Runs a number of concurrent clients, each with a number of requests. Returns the number of the
/// first client.
pub(crate) fn run_load(helper: &Helper, clients: u64, requests: u64) -> u64 {
    let clients: Vec<_> = (0..clients).map(|_| helper.connect()).collect();
    let first = clients.first().unwrap().number;
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                let devices = Devices::open();
                for index in 0..requests {
                    let request = Request::nth(client.number, index);
                    let answer = client.execute(&request, &devices);
                    assert_eq!(answer.status.0, 2, "CHECK CONDITION");
                }
                client.disconnect();
            });
        }
    });
    first
}

/// Reports on standard error that a test is skipped; panics if `PR_COMPAT_STRICT` is set.
pub(crate) fn skip(reason: &str) {
    let is_strict = env::var_os("PR_COMPAT_STRICT").is_some();
    assert!(!is_strict, "skipped: {reason}");
    // The output of `eprintln!` is shown only if the test fails.
    let _ = writeln!(io::stderr(), "trace: skipped: {reason}");
}

/// Returns a wrapper that runs a shell script, and then the helper, in a mount namespace of its
/// own. Skips the test and returns `None` if that is not possible.
pub(crate) fn mount_namespace(script: &str) -> Option<Vec<String>> {
    // Without root, a user namespace is needed too. The user keeps its ID there.
    let options = [&["-m"][..], &["-mc", "--keep-caps"]];
    let works = |options: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**options);
        command.args(["mount", "-t", "tmpfs", "none", "/tmp"]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(options) = options.iter().find(works) else {
        skip("cannot create a mount namespace");
        return None;
    };
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    let words = [&["unshare"], *options, &["sh", "-c", &script]].concat();
    Some(words.into_iter().map(str::to_owned).collect())
}
