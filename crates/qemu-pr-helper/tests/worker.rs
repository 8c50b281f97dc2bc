// SPDX-License-Identifier: MIT OR Apache-2.0

//! Workers of a real helper on a fake multipath map: a loop device that a fake sysfs shows as a map
//! with one path. The node of the path is a regular file. A worker opens it to execute a command.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use pr_helper_protocol::Response;
use pr_testkit::cdb::{PrCommand, cleanup, read_keys, reserve};
use pr_testkit::namespace::mount_namespace;
use pr_testkit::process::stop;
use pr_testkit::procfs::{only_child, status, workers};
use pr_testkit::{HelperProcess, TEST_TIMEOUT, TestClient, eventually, process, skip};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{major, minor};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use scsi_pr::{AdditionalSense, ReservationType, Sense, Status};

/// Mounts a private `/dev` and a fake `/sys/dev/block`.
const SCRIPT: &str = "
    mount -t tmpfs tmpfs /dev
    mknod -m 666 /dev/null c 1 3
    : >/dev/prtest
    mount --bind sysfs /sys/dev/block
";

/// Directory of the map in the fake sysfs.
const DEVICE: &str = "sysfs/dm-0";

/// Returns a command that goes to a path of the map.
fn reserve_map() -> PrCommand {
    reserve(0, ReservationType::WriteExclusiveRegistrantsOnly)
}

/// Helper for which a loop device is a map with the path `prtest`.
struct Setup {
    helper: HelperProcess,
    map: File,
    dir: tempfile::TempDir,
}

impl Setup {
    /// Starts the helper. Prints the reason and returns `None` if this host does not support that.
    fn start() -> Option<Self> {
        Self::start_with(&tempfile::tempdir().unwrap().path().join("none"))
    }

    /// Like [`Setup::start`], with this socket of multipathd.
    fn start_with(multipathd: &Path) -> Option<Self> {
        let mut devices = (0..8).map(|number| format!("/dev/loop{number}"));
        let open = |path: String| File::options().read(true).write(true).open(path).ok();
        let (Some(map), true) = (devices.find_map(open), geteuid().is_root()) else {
            skip("requires root and a loop device");
            return None;
        };
        let wrapper = mount_namespace(SCRIPT)?;
        let dir = tempfile::tempdir().unwrap();
        let number = map.metadata().unwrap().rdev();
        let number = format!("{}:{}", major(number), minor(number));
        let device = dir.path().join(DEVICE);
        fs::create_dir_all(device.join("dm")).unwrap();
        symlink("dm-0", device.with_file_name(&number)).unwrap();
        fs::create_dir_all(device.join("slaves/prtest")).unwrap();
        fs::write(device.join("dev"), &number).unwrap();
        fs::write(device.join("dm/uuid"), "mpath-test\n").unwrap();
        fs::write(device.join("slaves/prtest/dev"), "8:0\n").unwrap();
        let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
        let helper = helper.wrapper(wrapper).dir(dir.path());
        let helper = helper.env("MULTIPATH_SOCKET_NAME", multipathd);
        Some(Self {
            helper: helper.args(["--io-timeout", "3"]).start().unwrap(),
            map,
            dir,
        })
    }

    fn execute(&self, client: &mut TestClient, command: &PrCommand) -> Response {
        client.execute(command, &self.map)
    }

    /// Executes a command in a worker while the map has no path.
    fn execute_without_path(&self, client: &mut TestClient) {
        let slaves = self.dir.path().join(DEVICE).join("slaves");
        let hidden = slaves.with_file_name("hidden");
        fs::rename(&slaves, &hidden).unwrap();
        fs::create_dir(&slaves).unwrap();
        self.execute(client, &reserve_map());
        fs::remove_dir(&slaves).unwrap();
        fs::rename(&hidden, &slaves).unwrap();
    }

    fn broker(&self) -> Pid {
        only_child(self.helper.pid())
    }

    /// Kills all workers. The next command starts another one.
    fn kill_workers(&self) {
        let broker = self.broker();
        eventually("exit of all workers", || {
            let workers = workers(broker);
            for worker in &workers {
                // It may have exited already.
                let _ = kill_process(*worker, Signal::KILL);
            }
            workers.is_empty().then_some(())
        });
    }

    /// Returns the node of the path in the mount namespace of the helper.
    fn node(&self) -> PathBuf {
        format!("/proc/{}/root/dev/prtest", self.helper.pid()).into()
    }
}

/// Counter of the opens of the path's node.
struct Opens(OwnedFd);

impl Opens {
    fn watch(setup: &Setup) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&events, setup.node(), WatchFlags::OPEN).unwrap();
        Self(events)
    }

    /// Returns the number of opens since the last call. The kernel merges consecutive equal events.
    fn count(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        std::iter::from_fn(|| reader.next().ok().map(drop)).count()
    }
}

fn code(response: &Response) -> AdditionalSense {
    assert_eq!(response.status, Status::CHECK_CONDITION);
    Sense::decode(&response.sense).unwrap().code
}

/// A command must not be executed after it was reported as failed, even if the broker resumes.
#[test]
fn request_is_not_executed_after_its_deadline() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.helper.client();
    let opens = Opens::watch(&setup);
    setup.execute(&mut client, &reserve_map());
    setup.kill_workers();
    assert_eq!(opens.count(), 1, "{}", setup.helper.stderr());

    stop(setup.broker()).unwrap();
    let response = setup.execute(&mut client, &reserve_map());
    assert_eq!(
        code(&response),
        AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING
    );
    kill_process(setup.broker(), Signal::CONT).unwrap();
    // The broker handles requests in order, so the reply to this one means that it has handled the
    // one before.
    setup.execute_without_path(&mut client);
    setup.kill_workers();
    assert_eq!(opens.count(), 0, "{}", setup.helper.stderr());
    setup.execute(&mut client, &reserve_map());
    setup.kill_workers();
    assert_eq!(opens.count(), 1, "{}", setup.helper.stderr());
}

#[test]
fn read_keys_needs_no_worker() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let response = setup.execute(&mut setup.helper.client(), &read_keys(8));
    // The kernel rejects SG_IO to a loop device.
    assert_eq!(code(&response), AdditionalSense::INVALID_FIELD_IN_CDB);
    // The process of a resolver has the broker's name at first.
    eventually("no worker", || {
        workers(setup.broker()).is_empty().then_some(())
    });
}

#[test]
fn worker_executes_several_commands() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.helper.client();
    let worker = |_| {
        // The worker closes the path after its reply, and is ready then.
        setup.execute(&mut client, &reserve_map());
        eventually("an idle worker", || match *workers(setup.broker()) {
            [worker] if is_waiting(worker) => Some(worker),
            _ => None,
        })
    };
    let [first, others @ ..] = [(); 5].map(worker);
    assert_eq!(others, [first; 4]);
    setup.kill_workers();
    let mut client = setup.helper.client();
    let response = setup.execute(&mut client, &reserve_map());
    assert_eq!(code(&response), AdditionalSense::IO_PROCESS_TERMINATED);
    let log = setup.helper.stderr();
    assert!(!log.contains("exited without a reply"), "{log}");
    assert!(!workers(setup.broker()).contains(&first));
}

/// A stop interrupts recvmsg(2) with a timeout, and a request can arrive before the worker
/// continues.
#[test]
fn worker_that_was_stopped_executes_the_next_command() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.helper.client();
    setup.execute(&mut client, &reserve_map());
    let worker = eventually("an idle worker", || match *workers(setup.broker()) {
        [worker] if is_waiting(worker) => Some(worker),
        _ => None,
    });
    stop(worker).unwrap();
    kill_process(worker, Signal::CONT).unwrap();
    setup.execute(&mut client, &reserve_map());
    // The process of a resolver has the broker's name at first.
    eventually("no other worker", || {
        (*workers(setup.broker()) == [worker]).then_some(())
    });
    let log = setup.helper.stderr();
    assert!(!log.contains("exits"), "{log}");
}

/// A worker passes CLEANUP on to multipathd, which is not running here, and not to the path.
#[test]
fn cleanup_without_multipathd_fails() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let response = setup.execute(&mut setup.helper.client(), &cleanup());
    assert_eq!(
        code(&response),
        AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE
    );
    let log = setup.helper.stderr();
    assert!(
        log.contains("the key of a migrated guest is not removed"),
        "{log}"
    );
}

/// Starts a multipathd that has no key, and that takes `delay` for each reply about a map. Returns
/// the commands that it receives.
fn spawn_multipathd(socket: &Path, delay: Duration) -> Receiver<String> {
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, commands) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            while let Some(command) = read_command(&mut connection) {
                if command.starts_with("get") {
                    thread::sleep(delay);
                }
                sender.send(command).unwrap();
                let reply = b"unset\n\0";
                connection
                    .write_all(&reply.len().to_ne_bytes())
                    .and_then(|()| connection.write_all(reply))
                    .unwrap();
            }
        }
    });
    commands
}

/// Reads a command to multipathd; `None` at end of file.
fn read_command(connection: &mut UnixStream) -> Option<String> {
    let mut length = [0; size_of::<usize>()];
    connection.read_exact(&mut length).ok()?;
    let mut command = vec![0; usize::from_ne_bytes(length)];
    connection.read_exact(&mut command).unwrap();
    Some(String::from_utf8(command).unwrap())
}

#[test]
fn last_disconnect_of_a_map_looks_for_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("multipathd");
    let commands = spawn_multipathd(&socket, Duration::ZERO);
    let Some(setup) = Setup::start_with(&socket) else {
        return;
    };
    let (mut first, mut last) = (setup.helper.client(), setup.helper.client());
    setup.execute(&mut first, &reserve_map());
    assert_eq!(commands.try_recv().as_deref(), Ok("help\0"));
    setup.execute(&mut last, &read_keys(8));
    first.disconnect();
    // RELEASE would ask multipathd too, READ KEYS does not.
    setup.execute(&mut last, &read_keys(8));
    assert_eq!(commands.try_recv(), Err(TryRecvError::Empty));
    drop(last);
    let command = commands.recv_timeout(TEST_TIMEOUT).unwrap();
    assert!(command.starts_with("getprstatus map "), "{command}");
}

/// While a path fails, multipathd can take seconds for a reply.
#[test]
fn slow_multipathd_forgets_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("multipathd");
    let commands = spawn_multipathd(&socket, Duration::from_millis(600));
    let Some(setup) = Setup::start_with(&socket) else {
        return;
    };
    let mut client = setup.helper.client();
    setup.execute(&mut client, &reserve_map());
    client.disconnect();
    let is_query = |command: &String| command.starts_with("getprstatus map ");
    while !is_query(&commands.recv_timeout(TEST_TIMEOUT).unwrap()) {}
    // This waits until the key is forgotten.
    setup.execute(&mut setup.helper.client(), &reserve_map());
    let log = setup.helper.stderr();
    assert!(!log.contains("may keep a key"), "{log}");
}

/// Returns whether a thread of the process waits in recvmsg(2), as in a worker without a request.
fn is_waiting(process: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    threads.unwrap().any(|thread| {
        // A thread can have exited.
        let call = fs::read_to_string(thread.unwrap().path().join("syscall"));
        let call = call.unwrap_or_default();
        call.starts_with(&format!("{} ", libc::SYS_recvmsg))
    })
}

/// Attaches strace to the broker, which makes fork fail.
fn inject_fork_failure(broker: Pid) -> Child {
    Command::new("strace")
        .args(["-qq", "-o", "/dev/null"])
        .args(["-e", "inject=clone,clone3:error=EAGAIN"])
        .arg(format!("--attach={broker}"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn refused_worker_is_answered_with_busy() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.helper.client();
    assert_eq!(
        setup.execute(&mut client, &reserve_map()).status,
        Status::CHECK_CONDITION
    );
    if process::find("strace").is_none() {
        return skip("strace is not installed");
    }
    setup.kill_workers();
    let mut strace = inject_fork_failure(setup.broker());
    eventually("attachment of strace", || {
        (status(setup.broker(), "TracerPid") != "0").then_some(())
    });
    for _ in 0..3 {
        let response = setup.execute(&mut client, &reserve_map());
        assert_eq!(response.status, Status::BUSY, "{}", setup.helper.stderr());
    }
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    let log = setup.helper.stderr();
    let lines = log.lines().filter(|line| line.contains("not started"));
    assert_eq!(lines.count(), 1, "{log}");
    assert_eq!(
        setup.execute(&mut client, &reserve_map()).status,
        Status::CHECK_CONDITION
    );
}

/// The sandbox denies a worker the files of the host, but not the nodes of the paths.
#[test]
fn worker_opens_its_paths_in_the_sandbox() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.helper.client();
    setup.execute(&mut client, &reserve_map());
    let log = setup.helper.stderr();
    // The worker has opened the node, which is a regular file.
    assert!(log.contains("the node is not device 8:0"), "{log}");
}
