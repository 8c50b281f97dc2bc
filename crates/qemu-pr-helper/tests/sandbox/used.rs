//! The list of allowed system calls has all that the helper makes, and no others.

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
use qemu_pr_helper::sandbox::syscalls::{BASE, LEGACY, SOFT_LUNS, TestCoverage};
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::{Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};

const TIMEOUT: Duration = Duration::from_secs(60);

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
/// REGISTER AND IGNORE EXISTING KEY.
const REGISTER: [u8; 10] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0];

/// A helper under strace, in a directory with a soft LUN.
struct Traced {
    dir: tempfile::TempDir,
    strace: Child,
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

impl Traced {
    /// Starts the helper. Returns `None` if strace is not installed, and prints that.
    fn start(arguments: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = Port {
            name: "a".parse().unwrap(),
            nexus: Nexus {
                initiator: TransportId::Sas { sas_address: 0xa },
                target_port: 1.into(),
            },
        };
        fs::create_dir(dir.path().join("luns")).unwrap();
        Lun::create(
            &dir.path().join("luns/lun"),
            vec![port],
            SupportedFeatures::default(),
        )
        .unwrap();
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-e", "signal=none", "-o", "log"])
            .arg(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(dir.path().join("socket"))
            .args(arguments)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn();
        match strace {
            Ok(strace) => Some(Self { dir, strace }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                crate::skip("strace is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self) -> Client {
        connect(|| Client::connect(&self.path("socket")))
    }

    fn send(&self, file: &Path, cdb: &[u8], parameters: &[u8]) -> Status {
        let file = File::options().read(true).write(true).open(file).unwrap();
        let response = self
            .client()
            .execute(pad_cdb(cdb), file.as_fd(), parameters);
        response.unwrap().status
    }

    /// Ends the helper as a service manager does, and returns the log of strace.
    fn stop(&mut self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.strace.id());
        let helper = fs::read_to_string(children).unwrap();
        let helper = helper.split_whitespace().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(helper).unwrap(), Signal::TERM).unwrap();
        assert!(self.strace.wait().unwrap().success());
        fs::read_to_string(self.path("log")).unwrap()
    }
}

fn connect<T, E: std::fmt::Display>(connect: impl Fn() -> Result<T, E>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match connect() {
            Ok(connected) => return connected,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

/// Returns the lines of `log` that the helper causes inside its sandbox, without those of the
/// broker.
fn sandboxed(log: &str) -> impl Iterator<Item = &str> {
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

/// Performs each operation that makes other system calls than the operations before it.
fn exercise(helper: &Traced) {
    let null = Path::new("/dev/null");
    let luns = helper.path("luns/lun/ports/a");
    assert_eq!(helper.send(null, &READ_KEYS, &[]), Status::CHECK_CONDITION);
    assert_eq!(
        helper.send(null, &REGISTER, &[0; 24]),
        Status::CHECK_CONDITION
    );
    assert_eq!(helper.send(&luns, &READ_KEYS, &[]), Status::GOOD);
    let mut register = [0; 24];
    register[15] = 1;
    // APTPL, so that the soft LUN syncs its state to the disk.
    register[20] = 1;
    assert_eq!(helper.send(&luns, &REGISTER, &register), Status::GOOD);
    // The log names a file that is not a device, which the helper has to look up.
    let file = helper.path("file");
    fs::write(&file, "").unwrap();
    assert_eq!(helper.send(&file, &READ_KEYS, &[]), Status::CHECK_CONDITION);
    // A partial request, which times out.
    let mut partial = connect(|| UnixStream::connect(helper.path("socket")));
    partial.read_exact(&mut [0; 4]).unwrap();
    partial.write_all(&[0; 4]).unwrap();
    let null = File::open("/dev/null").unwrap();
    fd_passing::send(partial.as_fd(), &READ_KEYS[..3], null.as_fd()).unwrap();
    partial.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(partial.read(&mut [0]).unwrap(), 0);
}

#[test]
fn every_entry_is_used_and_none_is_missing() {
    let mut seen = BTreeSet::new();
    let options = ["-vv", "--request-timeout", "1", "--soft-luns", "luns"];
    // The helper writes log lines and trace records with different system calls.
    for more in [&[][..], &["-T", "pr_helper_*,file=trace"]] {
        let Some(mut helper) = Traced::start(&[&options, more].concat()) else {
            return;
        };
        exercise(&helper);
        if more.is_empty() {
            // A second thread exits after it has been idle for 10 s.
            sleep(Duration::from_secs(11));
        }
        let log = helper.stop();
        let refused: Vec<_> = sandboxed(&log)
            .filter(|line| line.contains(" EPERM "))
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
        let names =
            sandboxed(&log).filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
        seen.extend(names.map(|(name, _)| name.to_owned()));
    }
    let allowed = || BASE.iter().chain(LEGACY).chain(SOFT_LUNS);
    let unused: Vec<_> = allowed()
        .filter(|call| call.coverage == TestCoverage::Always && !seen.contains(call.name))
        .map(|call| call.name)
        .collect();
    assert!(unused.is_empty(), "listed, but never made: {unused:?}");
    let names: BTreeSet<_> = allowed().map(|call| call.name).collect();
    assert_eq!(names.len(), allowed().count(), "duplicate entry");
    let unknown: Vec<_> = seen
        .iter()
        .filter(|name| !names.contains(name.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "made, but not listed by the name of strace: {unknown:?}"
    );
}
