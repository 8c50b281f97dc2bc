// SPDX-License-Identifier: MIT OR Apache-2.0

//! The list of allowed system calls has all that the helper makes, and no others.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use pr_testkit::cdb::{PrCommand, key_list, read_keys, register, register_and_ignore_with};
use pr_testkit::client::null;
use pr_testkit::procfs::only_child;
use pr_testkit::soft_lun::SoftLunFixture;
use pr_testkit::{HelperProcess, eventually, process, skip};
use qemu_pr_helper::sandbox::syscalls::{BASE, LEGACY, SOFT_LUNS, TestCoverage};
use rustix::process::{Signal, kill_process};
use scsi_pr::{BasicParameterList, Status};

/// Command line of strace, which executes the helper.
const STRACE: [&str; 7] = ["strace", "-f", "-qq", "-e", "signal=none", "-o", "log"];

/// A helper under strace, in a directory with a soft LUN.
struct Traced {
    dir: tempfile::TempDir,
    strace: HelperProcess,
    lun: SoftLunFixture,
}

impl Traced {
    /// Starts the helper. Returns `None` if strace is not installed, and prints that.
    fn start(arguments: &[&str]) -> Option<Self> {
        if process::find("strace").is_none() {
            skip("strace is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let lun = SoftLunFixture::create(dir.path());
        let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
        let helper = helper.wrapper(STRACE).dir(dir.path()).args(arguments);
        let strace = helper.start().unwrap();
        Some(Self { dir, strace, lun })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn send(&self, file: &Path, command: &PrCommand) -> Status {
        let file = File::options().read(true).write(true).open(file).unwrap();
        self.strace.client().execute(command, file).status
    }

    /// Ends the helper as a service manager does, and returns the log of strace.
    fn stop(&mut self) -> String {
        kill_process(only_child(self.strace.pid()), Signal::TERM).unwrap();
        assert!(self.strace.wait().unwrap().success());
        fs::read_to_string(self.path("log")).unwrap()
    }
}

/// Returns the lines of `log` that the helper causes inside its sandbox, without those of the
/// broker and of its children.
fn sandboxed(log: &str) -> impl Iterator<Item = &str> {
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let names = ["\"pr-broker\"", "\"pr-names\""];
    let others: BTreeSet<_> = log
        .lines()
        .filter(|line| names.iter().any(|name| line.contains(name)))
        .filter_map(thread)
        .collect();
    let entered = log
        .lines()
        .filter(|line| line.contains(" seccomp("))
        .count();
    let mut filters = 0;
    log.lines().filter(move |line| {
        filters += usize::from(line.contains(" seccomp("));
        filters == entered
            && !line.contains(" seccomp(")
            && thread(line).is_none_or(|thread| !others.contains(&thread))
    })
}

/// Performs each operation that makes other system calls than the operations before it.
fn exercise(helper: &Traced) {
    let null_device = Path::new("/dev/null");
    let port = helper.lun.port("a");
    for command in [read_keys(8), register(0, 0)] {
        let status = helper.send(null_device, &command);
        assert_eq!(status, Status::CHECK_CONDITION);
    }
    assert_eq!(helper.send(&port, &read_keys(8)), Status::GOOD);
    // APTPL, so that the soft LUN syncs its state to the disk.
    let list = BasicParameterList {
        aptpl: true,
        ..key_list(0, 1)
    };
    let status = helper.send(&port, &register_and_ignore_with(&list));
    assert_eq!(status, Status::GOOD);
    // The log names a file that is not a device, which the helper has to look up.
    let file = helper.path("file");
    fs::write(&file, "").unwrap();
    let status = helper.send(&file, &read_keys(8));
    assert_eq!(status, Status::CHECK_CONDITION);
    // A partial request, which times out.
    let mut partial = helper.strace.client();
    partial.send(&read_keys(8).cdb[..3], null().as_fd());
    partial.assert_closed();
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
            eventually("the exit of a thread", || {
                let log = fs::read_to_string(helper.path("log")).unwrap();
                log.contains(" exit(").then_some(())
            });
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
    for name in &names {
        let entries = allowed().filter(|call| call.name == *name);
        assert_eq!(entries.count(), 1, "entries of {name}");
    }
    let unknown: Vec<_> = seen
        .iter()
        .filter(|name| !names.contains(name.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "made, but not listed by the name of strace: {unknown:?}"
    );
}
