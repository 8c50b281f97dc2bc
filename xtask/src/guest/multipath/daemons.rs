//! udevd and multipathd in a machine without systemd, and what multipathd says.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{mount_new, write};
use crate::process::{command, poll, run, text};

/// The daemon of udev, where Debian's package puts it.
pub(crate) const UDEVD: &str = "/lib/systemd/systemd-udevd";

/// How long a daemon may take to start, and to notice a change.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

const LOG: &str = "/run/multipathd.log";

/// multipathd's configuration. Every disk is to have a map, without the list of known ones that a
/// host has. The keys of `mpathpersist` are kept in a file, so that multipathd can register a path
/// that comes back. Paths are looked at each second, to be done soon; a host does it every 5 to 20.
/// For this target multipathd would let commands wait a while when there is no path; here they
/// fail, except where the scenario says otherwise.
const CONFIGURATION: &str = "\
defaults {
    user_friendly_names yes
    find_multipaths no
    reservation_key file
    polling_interval 1
    max_polling_interval 1
}
overrides {
    no_path_retry fail
}
";

/// Starts udevd and lets it look at the disks, as multipathd knows no others than udev does.
pub(super) fn start_udev() -> Result<()> {
    // Not waited for: it ends with the machine.
    start(UDEVD, &[], "/run/udevd.log")?;
    let ready = poll(PATIENCE, || {
        Ok(Path::new("/run/udev/control").exists().then_some(()))
    })?;
    ready.context("udevd does not start")?;
    run(command("udevadm").args(["trigger", "--action=add", "--subsystem-match=block"]))?;
    settle()
}

/// Waits until udevd has nothing left to do.
pub(super) fn settle() -> Result<()> {
    run(command("udevadm").args(["settle", "--timeout=60"]))
}

/// The running multipathd.
pub(super) struct Multipathd(Child);

impl Multipathd {
    /// Starts it in the foreground and waits until it answers.
    pub(super) fn start() -> Result<Self> {
        // What it remembers: bindings, WWIDs, keys. Whatever the host has there is not for us.
        mount_new("tmpfs", "/etc/multipath")?;
        write(Path::new("/etc/multipath.conf"), CONFIGURATION)?;
        let mut daemon = Self(start("multipathd", &["-d", "-s"], LOG)?);
        let answers = poll(PATIENCE, || {
            ensure!(daemon.0.try_wait()?.is_none(), "multipathd has ended");
            Ok(daemon.ask(&["show", "daemon"]).ok())
        })?;
        answers.context("multipathd does not answer")?;
        Ok(daemon)
    }

    /// Has it obey an interactive command.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        text(command("multipathd").args(words))
    }

    /// Stops its clock: what happens to a path now, the kernel alone can notice.
    pub(super) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.0), signal).context("cannot signal multipathd")
    }

    /// The state of the path `name` (`sda`): of device-mapper, and of multipathd's checker.
    pub(super) fn path_state(&self, name: &str) -> Result<String> {
        let paths = self.ask(&["show", "paths", "raw", "format", "%d %t %T"])?;
        let states = paths.lines().filter_map(|line| line.split_once(' '));
        let mut states = states.filter(|(path, _)| *path == name);
        Ok(states
            .next()
            .map(|(_, state)| state.trim().to_owned())
            .unwrap_or_default())
    }
}

/// What multipathd has said.
pub(super) fn log() -> String {
    fs::read_to_string(LOG).unwrap_or_else(|error| format!("({LOG}: {error})"))
}

fn start(program: &str, arguments: &[&str], log: &str) -> Result<Child> {
    let output = File::create(log).with_context(|| format!("cannot create {log}"))?;
    let errors = output.try_clone()?;
    let mut process: Command = command(program);
    process.args(arguments).stdin(Stdio::null());
    process.stdout(output).stderr(errors);
    let started = process.spawn();
    started.with_context(|| format!("cannot start {program}"))
}
