// SPDX-License-Identifier: MIT OR Apache-2.0

//! Actions of an intruder, performed in the sandbox: they fail, or the kernel kills the process.
//!
//! Each test starts this program again for one action, which [`sandboxed_action`] performs.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, exit};

use landlock::{AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};
use nix::sched::{CloneFlags, unshare};
use pr_testkit::skip;
use qemu_pr_helper::process::created_file::{CreatedFile, FileKind};
use qemu_pr_helper::sandbox::{self, AllowedAccess, enter, enter_as_broker};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::set_no_new_privs;

const ACTION: &str = "SANDBOX_ACTION";
const DIR: &str = "SANDBOX_DIR";
/// A file of a block device in sysfs.
const DEVICE: &str = "SANDBOX_DEVICE";
/// Set if the action is performed in the sandbox of the broker.
const BROKER: &str = "SANDBOX_BROKER";

/// Exit statuses: results of an action.
const DONE: i32 = 10;
const EPERM: i32 = 11;
const EACCES: i32 = 13;
const OTHER: i32 = 14;

/// Performs the action that the environment names, in a sandbox. Does nothing without one.
#[test]
fn sandboxed_action() {
    let Ok(action) = env::var(ACTION) else {
        return;
    };
    let dir = PathBuf::from(env::var_os(DIR).unwrap());
    let access = AllowedAccess {
        soft_luns: Some(File::open(dir.join("luns")).unwrap().into()),
        syslog: false,
    };
    // The sandbox restricts this thread only, which performs the action.
    match env::var_os(BROKER) {
        None => enter(sandbox::Mode::Enforce, &access).unwrap(),
        Some(_) => {
            let socket = dir.join("run/socket");
            let metadata = fs::metadata(&socket).unwrap();
            let socket = CreatedFile::new(FileKind::Socket, &socket, &metadata);
            let files = [socket.open_dir().unwrap()];
            set_no_new_privs(true).unwrap();
            enter_as_broker(sandbox::Mode::Enforce, &files).unwrap();
        }
    }
    let result = perform(&action, &dir);
    exit(match result.map_err(|error| error.raw_os_error()) {
        Ok(()) => DONE,
        Err(Some(libc::EPERM)) => EPERM,
        Err(Some(libc::EACCES)) => EACCES,
        Err(_) => OTHER,
    });
}

fn perform(action: &str, dir: &Path) -> io::Result<()> {
    let opened = |result: io::Result<File>| result.map(drop);
    match action {
        "read a device's directory" => fs::read_dir("/sys/dev/block").map(drop),
        "open a device's directory" => opened(File::open("/sys/devices/virtual/block")),
        "read a device's number" => opened(File::open(env::var(DEVICE).unwrap())),
        "read a soft LUN" => opened(File::open(dir.join("luns/file"))),
        "make a soft LUN's file" => opened(File::create(dir.join("luns/new"))),
        "remove the socket" => fs::remove_file(dir.join("run/socket")),
        "read a file" => opened(File::open("/etc/hostname")),
        "read a disk" => opened(File::open("/dev/zero")),
        "change sysfs" => opened(
            File::options()
                .write(true)
                .open("/sys/kernel/mm/transparent_hugepage/enabled"),
        ),
        "read a device's attributes" => opened(File::open("/sys/devices/system/cpu/online")),
        "open with O_PATH" => Ok(rustix::fs::open("/", OFlags::PATH, Mode::empty()).map(drop)?),
        "make a file" => opened(File::create(dir.join("run/new"))),
        "remove a file" => fs::remove_file(dir.join("file")),
        "read its threads" => fs::read_dir("/proc/self/task").map(drop),
        "write a disk" => opened(File::options().write(true).open("/dev/zero")),
        "connect to an abstract socket" => {
            UnixStream::connect_addr(&abstract_address(dir)).map(drop)
        }
        "connect to a socket" => UnixStream::connect(dir.join("run/socket")).map(drop),
        "make a socket" => UnixListener::bind(dir.join("run/new")).map(drop),
        "connect to a network" => TcpStream::connect("127.0.0.1:1").map(drop),
        "start a process" => Command::new("/bin/true").status().map(drop),
        "query a terminal" => Ok(rustix::termios::tcgetwinsize(io::stdin()).map(drop)?),
        "read kernel data" => opened(File::open("/sys/kernel/notes")),
        "make a pair of streams" => UnixStream::pair().map(drop),
        "make a pair of datagram sockets" => UnixDatagram::pair().map(drop),
        "signal a process" => {
            let itself = Pid::from_raw(std::process::id().cast_signed()).unwrap();
            Ok(kill_process(itself, Signal::USR1)?)
        }
        "leave the namespace" => Ok(unshare(CloneFlags::CLONE_NEWNS)?),
        "mount a file system" => {
            let nothing = rustix::mount::MountFlags::empty();
            Ok(rustix::mount::mount("none", dir, "tmpfs", nothing, None)?)
        }
        "execute a program" => Err(Command::new("/bin/true").exec()),
        other => panic!("unknown action: {other}"),
    }
}

/// Returns the address of a socket outside the sandbox.
fn abstract_address(dir: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(dir.as_os_str().as_encoded_bytes()).unwrap()
}

/// Returns a file of a block device in sysfs, if there is such a device.
fn device_file() -> Option<PathBuf> {
    let mut devices = fs::read_dir("/sys/devices/virtual/block").ok()?;
    Some(devices.next()?.ok()?.path().join("dev"))
}

/// Returns the exit status of a process that performs an action in the sandbox of the helper.
fn result(action: &str) -> ExitStatus {
    run(action, &[])
}

/// Returns the exit status of a process that performs an action in the sandbox of the broker.
fn broker_result(action: &str) -> ExitStatus {
    run(action, &[(BROKER, "1")])
}

fn run(action: &str, environment: &[(&str, &str)]) -> ExitStatus {
    let dir = tempfile::tempdir().unwrap();
    for name in ["luns", "run"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for name in ["luns/file", "file"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let _socket = UnixListener::bind(dir.path().join("run/socket")).unwrap();
    let _abstract = UnixListener::bind_addr(&abstract_address(dir.path())).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "forbidden::sandboxed_action", "--nocapture"]);
    command.env(ACTION, action).env(DIR, dir.path());
    command.env(DEVICE, device_file().unwrap_or_default());
    command.envs(environment.iter().copied());
    command.stdin(File::open("/dev/null").unwrap());
    command.output().unwrap().status
}

#[test]
fn helper_reaches_soft_luns_and_sysfs() {
    for action in ["read a soft LUN", "make a soft LUN's file"] {
        assert_eq!(result(action).code(), Some(DONE), "{action}");
    }
    match device_file() {
        None => skip("there is no block device in /sys/devices/virtual"),
        Some(_) => assert_eq!(result("read a device's number").code(), Some(DONE)),
    }
}

#[test]
fn helper_reaches_no_other_files() {
    if !has_landlock() {
        return skip("this kernel has no landlock");
    }
    for action in [
        "read a file",
        "read a disk",
        "change sysfs",
        "make a file",
        "read kernel data",
        "read a device's attributes",
        // The descriptor of a directory would let a client leave a chroot(2).
        "read a device's directory",
        "open a device's directory",
    ] {
        assert_eq!(result(action).code(), Some(EACCES), "{action}");
    }
}

#[test]
fn broker_reaches_paths_and_multipathd() {
    for action in [
        "read a device's directory",
        "read a device's attributes",
        "read a disk",
        "read its threads",
        "connect to an abstract socket",
        "connect to a socket",
        "remove the socket",
    ] {
        assert_eq!(broker_result(action).code(), Some(DONE), "{action}");
    }
}

#[test]
fn broker_reaches_no_other_files() {
    if !has_landlock() {
        return skip("this kernel has no landlock");
    }
    for action in [
        "read a file",
        "change sysfs",
        "make a file",
        "remove a file",
        "write a disk",
    ] {
        assert_eq!(broker_result(action).code(), Some(EACCES), "{action}");
    }
}

#[test]
fn created_files_cannot_be_removed() {
    for action in ["remove the socket", "remove a file"] {
        // With soft LUNs, seccomp allows the call on some architectures. Landlock then denies it.
        let code = result(action).code();
        assert!(matches!(code, Some(EPERM | EACCES)), "{action}: {code:?}");
    }
}

#[test]
fn unlisted_system_calls_fail() {
    for action in [
        "connect to a socket",
        "make a socket",
        "connect to a network",
        "make a pair of streams",
        "make a pair of datagram sockets",
        "start a process",
        "signal a process",
        "query a terminal",
        "open with O_PATH",
    ] {
        assert_eq!(result(action).code(), Some(EPERM), "{action}");
    }
}

#[test]
fn hostile_system_calls_kill_the_process() {
    for action in [
        "execute a program",
        "leave the namespace",
        "mount a file system",
    ] {
        assert_eq!(result(action).signal(), Some(libc::SIGSYS), "{action}");
    }
}

/// Returns whether the kernel supports landlock.
fn has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset
        .handle_access(AccessFs::ReadFile)
        .and_then(Ruleset::create)
        .is_ok()
}
