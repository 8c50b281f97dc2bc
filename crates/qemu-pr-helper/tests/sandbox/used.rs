//! The list of system calls: everything that the helper does is on it, and nothing that it does not do.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::wire::pad_cdb;
use pr_helper_protocol::{Client, fd_passing};
use qemu_pr_helper::sandbox::syscalls::{OLD, SERVING, SOFT_LUNS, Seen};
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::{Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};

const PATIENCE: Duration = Duration::from_secs(60);

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
/// With a new key of zero, and APTPL, which has the soft LUN's state brought to the disk.
const REGISTER: [u8; 10] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0];

/// A helper under strace, in a folder with a soft LUN.
struct Traced {
    folder: tempfile::TempDir,
    strace: Child,
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

impl Traced {
    /// `None` if there is no strace, which is said.
    fn start(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = Port {
            name: "a".parse().unwrap(),
            nexus: Nexus {
                initiator: TransportId::Sas { sas_address: 0xa },
                target_port: 1.into(),
            },
        };
        fs::create_dir(folder.path().join("luns")).unwrap();
        Lun::create(
            &folder.path().join("luns/lun"),
            vec![port],
            SupportedFeatures::default(),
        )
        .unwrap();
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-e", "signal=none", "-o", "log"])
            .arg(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(folder.path().join("socket"))
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn();
        match strace {
            Ok(strace) => Some(Self { folder, strace }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                crate::skipped("there is no strace");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self) -> Client {
        connect(|| Client::connect(&self.path("socket")))
    }

    fn ask(&self, file: &Path, cdb: &[u8], parameters: &[u8]) -> Status {
        let file = File::options().read(true).write(true).open(file).unwrap();
        let response = self
            .client()
            .execute(pad_cdb(cdb), file.as_fd(), parameters);
        response.unwrap().status
    }

    /// Ends the helper as a service manager does, and gives strace's log.
    fn log(&mut self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.strace.id());
        let helper = fs::read_to_string(children).unwrap();
        let helper = helper.split_whitespace().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(helper).unwrap(), Signal::TERM).unwrap();
        assert!(self.strace.wait().unwrap().success());
        fs::read_to_string(self.path("log")).unwrap()
    }
}

fn connect<T, E: std::fmt::Display>(connect: impl Fn() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match connect() {
            Ok(connected) => return connected,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

/// The lines of what the helper does once it is in its sandbox, without its broker's.
fn inside(log: &str) -> impl Iterator<Item = &str> {
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let broker = log
        .lines()
        .find(|line| line.contains("\"pr-broker\""))
        .and_then(thread);
    let entered = log
        .lines()
        .filter(|line| line.contains(" seccomp("))
        .count();
    let mut filters = 0;
    log.lines().filter(move |line| {
        filters += usize::from(line.contains(" seccomp("));
        filters == entered && !line.contains(" seccomp(") && thread(line) != broker
    })
}

/// Everything that takes a system call of its own, one after the other.
fn do_everything(helper: &Traced) {
    let null = Path::new("/dev/null");
    let luns = helper.path("luns/lun/ports/a");
    assert_eq!(helper.ask(null, &READ_KEYS, &[]), Status::CHECK_CONDITION);
    assert_eq!(
        helper.ask(null, &REGISTER, &[0; 24]),
        Status::CHECK_CONDITION
    );
    assert_eq!(helper.ask(&luns, &READ_KEYS, &[]), Status::GOOD);
    let mut register = [0; 24];
    register[15] = 1;
    register[20] = 1;
    assert_eq!(helper.ask(&luns, &REGISTER, &register), Status::GOOD);
    // A file that is no device has a name in the log.
    let file = helper.path("file");
    fs::write(&file, "").unwrap();
    assert_eq!(helper.ask(&file, &READ_KEYS, &[]), Status::CHECK_CONDITION);
    // Half of a request, which is not waited for.
    let mut half = connect(|| UnixStream::connect(helper.path("socket")));
    half.read_exact(&mut [0; 4]).unwrap();
    half.write_all(&[0; 4]).unwrap();
    let null = File::open("/dev/null").unwrap();
    fd_passing::send(half.as_fd(), &READ_KEYS[..3], null.as_fd()).unwrap();
    half.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
}

#[test]
fn every_entry_is_used_and_nothing_else_is_wanted() {
    let mut seen = BTreeSet::new();
    let options = ["-vv", "--request-timeout", "1", "--soft-luns", "luns"];
    // Lines and records are written by different calls.
    for more in [&[][..], &["-T", "pr_helper_*,file=trace"]] {
        let Some(mut helper) = Traced::start(&[&options, more].concat()) else {
            return;
        };
        do_everything(&helper);
        if more.is_empty() {
            // A second thread has nothing to do, and ends when that has been so for ten seconds.
            sleep(Duration::from_secs(11));
        }
        let log = helper.log();
        let refused: Vec<_> = inside(&log)
            .filter(|line| line.contains(" EPERM "))
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
        let names = inside(&log).filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
        seen.extend(names.map(|(name, _)| name.to_owned()));
    }
    let allowed = || SERVING.iter().chain(OLD).chain(SOFT_LUNS);
    let unused: Vec<_> = allowed()
        .filter(|call| call.seen == Seen::Always && !seen.contains(call.name))
        .map(|call| call.name)
        .collect();
    assert!(unused.is_empty(), "nothing makes these: {unused:?}");
    let names: BTreeSet<_> = allowed().map(|call| call.name).collect();
    assert_eq!(names.len(), allowed().count(), "an entry is there twice");
    let unknown: Vec<_> = seen
        .iter()
        .filter(|name| !names.contains(name.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "strace has these by other names: {unknown:?}"
    );
}
