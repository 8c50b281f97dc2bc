//! The helper that libvirt has started for a machine: what it is, and that nothing of it is left.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::daemon::{DOMAINS, HELPER_USER, STATE, USER};
use super::domain::Domain;
use crate::guest::process_table::{self, BROKER, HELPER, WORKER};
use crate::guest::read;

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the process that serves clients keeps, and what it has given up.
const HELPERS_STATUS: [(&str, &str); 7] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000020000"),
    ("CapEff", "0000000000020000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

/// `CAP_SYS_RAWIO` and `CAP_DAC_READ_SEARCH`, which the broker uses for maps, and
/// `CAP_DAC_OVERRIDE`, to remove the socket at the end.
const BROKERS_STATUS: [(&str, &str); 6] = [
    ("Uid", "0\t0\t0\t0"),
    ("CapPrm", "0000000000020006"),
    ("CapEff", "0000000000020004"),
    ("CapBnd", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

/// Where libvirt puts what belongs to a machine's helper.
pub(super) struct Managed {
    folder: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
}

impl Managed {
    pub(super) fn of(domain: &Domain) -> Self {
        let name = format!("{}-{}", domain.number, domain.name);
        let folder = Path::new(DOMAINS).join(format!("domain-{name}"));
        Self {
            socket: folder.join("pr-helper0.sock"),
            folder,
            pid_file: Path::new(STATE).join(format!("{name}-pr-helper0.pid")),
        }
    }

    /// There is one helper, started as libvirt does it, and in its records.
    pub(super) fn expect_started(&self, program: &Path) -> Result<Pid> {
        let helper = process_table::one(HELPER)?;
        let words = format!("{} -k {} ", program.display(), self.socket.display());
        let line = read(&process_table::of(helper, "cmdline"))?.replace('\0', " ");
        ensure!(line == words, "{line:?} instead of {words:?}");
        process_table::expect_status(helper, &[("PPid", "1")])?;
        let kept = read(&self.pid_file)?;
        ensure!(
            kept == helper.as_raw_nonzero().to_string(),
            "{} has {kept:?}, and the helper is {helper:?}",
            self.pid_file.display()
        );
        let owner = fs::metadata(&self.socket).context("there is no socket")?;
        let owner = owner.uid();
        ensure!(owner == USER, "the socket is user {owner}'s");
        println!("guest: {line}is process {kept}, as libvirt's PID file says, and has parent 1");
        Ok(helper)
    }

    /// It has no more privileges than it needs, and neither has its broker.
    pub(super) fn expect_confined(helper: Pid) -> Result<()> {
        let broker = process_table::one(BROKER)?;
        let user = vec![HELPER_USER.to_string(); 4].join("\t");
        process_table::expect_status(helper, &[("Uid", &user)])?;
        for (process, who, status) in [
            (helper, "each of its threads", HELPERS_STATUS.as_slice()),
            (broker, "its broker", &BROKERS_STATUS),
        ] {
            let lines = process_table::expect_status(process, status)?;
            println!("guest: {who}: {}", lines.join(", ").replace('\t', " "));
        }
        Ok(())
    }

    /// Ends the helper as the kernel does that is out of memory. libvirt hears of it from QEMU, at the guest's next
    /// command.
    pub(super) fn kill(helper: Pid) -> Result<()> {
        kill_process(helper, Signal::KILL).context("cannot kill the helper")?;
        for name in [HELPER, BROKER] {
            process_table::gone(name, PATIENCE)?;
        }
        Ok(())
    }

    /// The machine has ended, and all that was its helper's with it.
    pub(super) fn expect_nothing_left(&self) -> Result<()> {
        for name in [HELPER, BROKER, WORKER] {
            let left = process_table::all(name)?;
            ensure!(left.is_empty(), "{name} is left behind: {left:?}");
        }
        for path in [&self.socket, &self.pid_file, &self.folder] {
            ensure!(!path.exists(), "{} is left behind", path.display());
        }
        Ok(())
    }
}
