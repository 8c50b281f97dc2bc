//! A helper that was killed while one of its threads is stuck in the kernel, and the next helper.
//!
//! The thread waits for a FUSE server, which has read a request and does not answer. SIGKILL does
//! not end such a wait. The tests need root and `/dev/fuse`.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, IoctlFlags, ReplyAttr, ReplyEntry, ReplyIoctl, Request,
};
use pr_helper_protocol::wire::pad_cdb;
use pr_helper_protocol::{Client, fd_passing};
use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, getrlimit, kill_process, setrlimit};

/// Timeout for an event that must happen. It is long, because a machine under load is slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// READ KEYS, with an allocation length of 8 bytes.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

const DISK: INodeNo = INodeNo(2);

/// A FUSE request without an answer.
enum PendingRequest {
    Ioctl(ReplyIoctl),
    Attributes(ReplyAttr),
}

/// Requests that the server has read from the kernel and not answered.
#[derive(Clone, Default)]
struct Hang {
    /// Set while further requests are held.
    is_on: Arc<AtomicBool>,
    pending: Arc<Mutex<Vec<PendingRequest>>>,
}

impl Hang {
    fn hold(&self, request: PendingRequest) {
        self.pending.lock().unwrap().push(request);
    }

    fn is_holding(&self) -> bool {
        !self.pending.lock().unwrap().is_empty()
    }

    /// Fails all requests that are held, and later ones.
    fn release(&self) {
        self.is_on.store(false, Ordering::SeqCst);
        for request in self.pending.lock().unwrap().drain(..) {
            match request {
                PendingRequest::Ioctl(reply) => reply.error(Errno::EIO),
                PendingRequest::Attributes(reply) => reply.error(Errno::EIO),
            }
        }
    }
}

/// A file system with one file, `disk`.
struct Disk(Hang);

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "disk" {
            true => reply.entry(&Duration::ZERO, &attributes(DISK), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match inode == DISK && self.0.is_on.load(Ordering::SeqCst) {
            true => self.0.hold(PendingRequest::Attributes(reply)),
            false => reply.attr(&Duration::ZERO, &attributes(inode)),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        match self.0.is_on.load(Ordering::SeqCst) {
            true => self.0.hold(PendingRequest::Ioctl(reply)),
            false => reply.error(Errno::EIO),
        }
    }
}

fn attributes(inode: INodeNo) -> FileAttr {
    let (kind, perm) = match inode == DISK {
        true => (FileType::RegularFile, 0o666),
        false => (FileType::Directory, 0o755),
    };
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: inode,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Prints the reason why a test is skipped. Fails if no test may be skipped.
fn skip(reason: &str) {
    let is_strict = env::var_os("PR_COMPAT_STRICT").is_some();
    assert!(!is_strict, "skipped: {reason}");
    // Not eprintln, because the test harness captures its output.
    let _ = writeln!(io::stderr(), "killed: skipped: {reason}");
}

/// The mounted file system. On drop all requests fail, so that no process is left.
struct Mount<'a> {
    dir: &'a Path,
    hang: Hang,
    session: BackgroundSession,
}

impl<'a> Mount<'a> {
    /// Mounts the file system; `None` with a printed reason if that is not possible.
    fn new(dir: &'a Path) -> Option<Self> {
        if !geteuid().is_root() {
            skip("not root: a FUSE file system cannot be mounted and unmounted");
            return None;
        }
        let hang = Hang::default();
        match fuser::spawn_mount(Disk(hang.clone()), dir, &Config::default()) {
            Ok(session) => Some(Self { dir, hang, session }),
            Err(error) => {
                skip(&format!("cannot mount a FUSE file system: {error}"));
                None
            }
        }
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.dir, UnmountFlags::DETACH);
        let end = Instant::now() + TIMEOUT;
        while !self.session.guard.is_finished() && Instant::now() < end {
            self.hang.release();
            sleep(Duration::from_millis(10));
        }
    }
}

/// A helper as a child process. It is killed on drop.
struct Helper(Child);

impl Helper {
    /// Starts a helper with its socket and its PID file in `dir`, and waits until it serves.
    fn start(dir: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(dir.join("socket"))
            .arg("-f")
            .arg(dir.join("pid"))
            .stdin(Stdio::null())
            .stderr(File::create(dir.join("log")).unwrap())
            .spawn();
        let mut helper = Self(child.unwrap());
        wait_until("the PID file", || {
            let ended = helper.0.try_wait().unwrap();
            let log = || fs::read_to_string(dir.join("log")).unwrap();
            assert_eq!(ended, None, "{}", log());
            let content = fs::read_to_string(dir.join("pid")).unwrap_or_default();
            content == format!("{}\n", helper.0.id())
        });
        helper
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(event: &str, mut has_happened: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !has_happened() {
        assert!(Instant::now() < end, "timed out waiting for {event}");
        sleep(Duration::from_millis(10));
    }
}

/// Connects to a socket from which no process accepts, until its backlog is full.
fn fill_backlog(socket: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(socket).unwrap();
    let mut queued = Vec::new();
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&client, &address) {
            Ok(()) => queued.push(client),
            Err(error) => break assert_eq!(error, rustix::io::Errno::AGAIN),
        }
    }
    queued
}

#[test]
fn killed_helper_with_a_stuck_thread_is_replaced() {
    replace_killed_helper(false);
}

#[test]
fn killed_helper_with_a_full_backlog_is_replaced() {
    // The backlog has 4096 connections, and this process has one end of each.
    let limit = Rlimit {
        current: Some(10_000),
        ..getrlimit(Resource::Nofile)
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        return skip(&format!("cannot open 10,000 files: {error}"));
    }
    replace_killed_helper(true);
}

fn replace_killed_helper(fills_backlog: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (socket, disks) = (dir.path().join("socket"), dir.path().join("disks"));
    fs::create_dir(&disks).unwrap();
    let mut first;
    let Some(mount) = Mount::new(&disks) else {
        return;
    };
    // Declared before the mount, so that it is dropped after it if the test fails: see `Mount`.
    first = Helper::start(dir.path());
    let disk = File::options().read(true).open(disks.join("disk")).unwrap();
    let mut client = UnixStream::connect(&socket).unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    rustix::io::write(&client, &[0; 4]).unwrap();
    mount.hang.is_on.store(true, Ordering::SeqCst);
    fd_passing::send(client.as_fd(), &pad_cdb(&READ_KEYS), disk.as_fd()).unwrap();
    wait_until("a request at the FUSE server", || mount.hang.is_holding());

    first.signal(Signal::KILL);
    let status = format!("/proc/{}/status", first.0.id());
    wait_until("the main thread to end", || {
        fs::read_to_string(&status).unwrap().contains("State:\tZ")
    });
    // The process still exists, and its socket is open.
    assert_eq!(first.0.try_wait().unwrap(), None);
    let queued = match fills_backlog {
        true => fill_backlog(&socket),
        false => vec![UnixStream::connect(&socket).unwrap().into()],
    };

    let mut second = Helper::start(dir.path());
    let null = File::open("/dev/null").unwrap();
    let mut other = Client::connect(&socket).unwrap();
    other
        .execute(pad_cdb(&READ_KEYS), null.as_fd(), &[])
        .unwrap();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    for replaced in ["warning: socket", "warning: PID file"] {
        let line = log.lines().find(|line| line.contains(replaced));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(
            line.contains(&format!(" replaced: process {},", first.0.id())),
            "{line}"
        );
    }
    drop((other, queued));
    second.signal(Signal::TERM);
    assert!(second.0.wait().unwrap().success());
    assert!(!socket.exists() && !dir.path().join("pid").exists());
    // The FUSE server ends when no process has a file open.
    drop((client, disk));
    drop(mount);
    first.0.wait().unwrap();
}

/// A stopped helper still exists, although it serves no client.
#[test]
fn stopped_helper_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let first = Helper::start(dir.path());
    first.signal(Signal::STOP);
    for option in ["-k", "-f"] {
        // Each option is tested alone: the other file is a new one.
        let other = |name: &str, given: &str| match given == option {
            true => dir.path().join(name),
            false => dir.path().join("other").join(name),
        };
        fs::create_dir_all(dir.path().join("other")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(other("socket", "-k"))
            .arg("-f")
            .arg(other("pid", "-f"))
            .stdin(Stdio::null())
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("another"), "{text}");
    }
    first.signal(Signal::CONT);
}
