//! What an intruder would do, done by a process in the sandbox: it fails, or ends the process.
//!
//! Each test starts this program again for one deed, which [`the_deed`] does.

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
use qemu_pr_helper::process::created_file::{CreatedFile, Kind};
use qemu_pr_helper::sandbox::{self, AllowedAccess, enter, enter_as_broker};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::set_no_new_privs;

const DEED: &str = "SANDBOX_DEED";
const FOLDER: &str = "SANDBOX_FOLDER";
/// A file of a block device in sysfs.
const DEVICE: &str = "SANDBOX_DEVICE";
/// Set if the deed is one of the broker.
const BROKER: &str = "SANDBOX_BROKER";

/// Exit statuses: what has become of a deed.
const DONE: i32 = 10;
const EPERM: i32 = 11;
const EACCES: i32 = 13;
const OTHER: i32 = 14;

/// Does what the environment says, in a sandbox; nothing where it says nothing.
#[test]
fn the_deed() {
    let Ok(deed) = env::var(DEED) else {
        return;
    };
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let needs = AllowedAccess {
        soft_luns: Some(File::open(folder.join("luns")).unwrap().into()),
        syslog: false,
    };
    // Of this thread alone, which is enough for the deed.
    match env::var_os(BROKER) {
        None => enter(sandbox::Mode::Enforce, &needs).unwrap(),
        Some(_) => {
            let socket = folder.join("run/socket");
            let metadata = fs::metadata(&socket).unwrap();
            let socket = CreatedFile::new(Kind::Socket, &socket, &metadata);
            let files = [socket.open_dir().unwrap()];
            set_no_new_privs(true).unwrap();
            enter_as_broker(sandbox::Mode::Enforce, &files).unwrap();
        }
    }
    let done = commit(&deed, &folder);
    exit(match done.map_err(|error| error.raw_os_error()) {
        Ok(()) => DONE,
        Err(Some(libc::EPERM)) => EPERM,
        Err(Some(libc::EACCES)) => EACCES,
        Err(_) => OTHER,
    });
}

fn commit(deed: &str, folder: &Path) -> io::Result<()> {
    let of_file = |result: io::Result<File>| result.map(drop);
    match deed {
        "read a device's folder" => fs::read_dir("/sys/dev/block").map(drop),
        "open a device's directory" => of_file(File::open("/sys/devices/virtual/block")),
        "read a device's number" => of_file(File::open(env::var(DEVICE).unwrap())),
        "read a soft LUN" => of_file(File::open(folder.join("luns/file"))),
        "make a soft LUN's file" => of_file(File::create(folder.join("luns/new"))),
        "remove the socket" => fs::remove_file(folder.join("run/socket")),
        "read a file" => of_file(File::open("/etc/hostname")),
        "read a disk" => of_file(File::open("/dev/zero")),
        "change sysfs" => of_file(
            File::options()
                .write(true)
                .open("/sys/kernel/mm/transparent_hugepage/enabled"),
        ),
        "read a device's attributes" => of_file(File::open("/sys/devices/system/cpu/online")),
        "name a folder" => Ok(rustix::fs::open("/", OFlags::PATH, Mode::empty()).map(drop)?),
        "make a file" => of_file(File::create(folder.join("run/new"))),
        "remove a file" => fs::remove_file(folder.join("file")),
        "read its threads" => fs::read_dir("/proc/self/task").map(drop),
        "write a disk" => of_file(File::options().write(true).open("/dev/zero")),
        "connect to an abstract socket" => {
            UnixStream::connect_addr(&abstract_address(folder)).map(drop)
        }
        "connect to a socket" => UnixStream::connect(folder.join("run/socket")).map(drop),
        "make a socket" => UnixListener::bind(folder.join("run/new")).map(drop),
        "connect to a network" => TcpStream::connect("127.0.0.1:1").map(drop),
        "start a process" => Command::new("/bin/true").status().map(drop),
        "ask a terminal" => Ok(rustix::termios::tcgetwinsize(io::stdin()).map(drop)?),
        "read a trace of the kernel" => of_file(File::open("/sys/kernel/notes")),
        "make a pair of streams" => UnixStream::pair().map(drop),
        "make a pair of datagram sockets" => UnixDatagram::pair().map(drop),
        "signal a process" => {
            let itself = Pid::from_raw(std::process::id().cast_signed()).unwrap();
            Ok(kill_process(itself, Signal::USR1)?)
        }
        "leave the namespace" => Ok(unshare(CloneFlags::CLONE_NEWNS)?),
        "mount something" => {
            let nothing = rustix::mount::MountFlags::empty();
            Ok(rustix::mount::mount(
                "none", folder, "tmpfs", nothing, None,
            )?)
        }
        "become another program" => Err(Command::new("/bin/true").exec()),
        other => panic!("nobody knows how to {other}"),
    }
}

/// Returns the address of a socket outside of the sandbox.
fn abstract_address(folder: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(folder.as_os_str().as_encoded_bytes()).unwrap()
}

/// Returns a file of a block device in sysfs, if there is such a device.
fn device_file() -> Option<PathBuf> {
    let mut devices = fs::read_dir("/sys/devices/virtual/block").ok()?;
    Some(devices.next()?.ok()?.path().join("dev"))
}

/// What becomes of a deed.
fn result(deed: &str) -> ExitStatus {
    run(deed, &[])
}

/// Returns the exit status of a process that does a deed in the broker's sandbox.
fn broker_result(deed: &str) -> ExitStatus {
    run(deed, &[(BROKER, "1")])
}

fn run(deed: &str, environment: &[(&str, &str)]) -> ExitStatus {
    let folder = tempfile::tempdir().unwrap();
    for name in ["luns", "run"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in ["luns/file", "file"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let _socket = UnixListener::bind(folder.path().join("run/socket")).unwrap();
    let _abstract = UnixListener::bind_addr(&abstract_address(folder.path())).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "refused::the_deed", "--nocapture"]);
    command.env(DEED, deed).env(FOLDER, folder.path());
    command.env(DEVICE, device_file().unwrap_or_default());
    command.envs(environment.iter().copied());
    command.stdin(File::open("/dev/null").unwrap());
    command.output().unwrap().status
}

#[test]
fn what_the_helper_needs_is_there() {
    for deed in ["read a soft LUN", "make a soft LUN's file"] {
        assert_eq!(result(deed).code(), Some(DONE), "{deed}");
    }
    match device_file() {
        None => crate::skipped("there is no block device in /sys/devices/virtual"),
        Some(_) => assert_eq!(result("read a device's number").code(), Some(DONE)),
    }
}

#[test]
fn other_files_are_not() {
    if !has_landlock() {
        return crate::skipped("this kernel has no landlock");
    }
    for deed in [
        "read a file",
        "read a disk",
        "change sysfs",
        "make a file",
        "read a trace of the kernel",
        "read a device's attributes",
        // A client in a chroot(2) that is passed a descriptor of a directory walks out of it.
        "read a device's folder",
        "open a device's directory",
    ] {
        assert_eq!(result(deed).code(), Some(EACCES), "{deed}");
    }
}

#[test]
fn broker_reaches_paths_and_multipathd() {
    for deed in [
        "read a device's folder",
        "read a device's attributes",
        "read a disk",
        "read its threads",
        "connect to an abstract socket",
        "connect to a socket",
        "remove the socket",
    ] {
        assert_eq!(broker_result(deed).code(), Some(DONE), "{deed}");
    }
}

#[test]
fn broker_reaches_no_other_files() {
    if !has_landlock() {
        return crate::skipped("this kernel has no landlock");
    }
    for deed in [
        "read a file",
        "change sysfs",
        "make a file",
        "remove a file",
        "write a disk",
    ] {
        assert_eq!(broker_result(deed).code(), Some(EACCES), "{deed}");
    }
}

#[test]
fn created_files_cannot_be_removed() {
    for deed in ["remove the socket", "remove a file"] {
        // On some architectures the system call has uses with soft LUNs, and landlock refuses it.
        let code = result(deed).code();
        assert!(matches!(code, Some(EPERM | EACCES)), "{deed}: {code:?}");
    }
}

#[test]
fn foreign_system_calls_fail() {
    for deed in [
        "connect to a socket",
        "make a socket",
        "connect to a network",
        "make a pair of streams",
        "make a pair of datagram sockets",
        "start a process",
        "signal a process",
        "ask a terminal",
        "name a folder",
    ] {
        assert_eq!(result(deed).code(), Some(EPERM), "{deed}");
    }
}

#[test]
fn what_only_an_intruder_does_ends_the_process() {
    for deed in [
        "become another program",
        "leave the namespace",
        "mount something",
    ] {
        assert_eq!(result(deed).signal(), Some(libc::SIGSYS), "{deed}");
    }
}

/// Whether the kernel can restrict files.
fn has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset
        .handle_access(AccessFs::ReadFile)
        .and_then(Ruleset::create)
        .is_ok()
}
