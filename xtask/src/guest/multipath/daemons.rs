//! udevd and multipathd in a machine without systemd, and what multipathd says.

use std::cell::RefCell;
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
/// fail, except where the scenario says otherwise. Disks named `strangers` are in no map.
fn configuration(keys: Keys, without_path: WithoutPath, strangers: &[String]) -> String {
    let keys = match keys {
        Keys::InFile => "    reservation_key file\n",
        Keys::Nowhere => "",
    };
    let without_path = match without_path {
        WithoutPath::Fail => "fail",
        WithoutPath::Queue => "queue",
    };
    let strangers: String = strangers
        .iter()
        .map(|name| format!("    devnode \"^{name}$\"\n"))
        .collect();
    format!(
        "\
defaults {{
    user_friendly_names yes
    find_multipaths no
{keys}    polling_interval 1
    max_polling_interval 1
}}
overrides {{
    no_path_retry {without_path}
}}
blacklist {{
{strangers}}}
"
    )
}

const CONFIGURATION: &str = "/etc/multipath.conf";

/// Where multipathd has a map's key from, if it is to register paths.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    /// `reservation_key file`: whoever registers says.
    InFile,
    /// No `reservation_key`, as the default is.
    Nowhere,
}

/// udevd, from which multipathd knows the disks.
pub(super) struct Udevd {
    process: Child,
}

impl Udevd {
    /// Starts it and lets it look at the disks.
    pub(super) fn start() -> Result<Self> {
        let process = start(UDEVD, &[], "/run/udevd.log")?;
        let ready = poll(PATIENCE, || {
            Ok(Path::new("/run/udev/control").exists().then_some(()))
        })?;
        ready.context("udevd does not start")?;
        run(command("udevadm").args(["trigger", "--action=add", "--subsystem-match=block"]))?;
        settle()?;
        Ok(Self { process })
    }

    /// Has it look at nothing any more. Whenever somebody who could write to a disk has closed it, it looks at
    /// the disk anew and has the kernel read the partitions; both take the unit attentions that others wait
    /// for. Its own way to be paused (`--stop-exec-queue`) leaves the partitions.
    pub(super) fn freeze(&self) -> Result<()> {
        settle()?;
        signal(&self.process, Signal::STOP).context("cannot stop udevd")
    }
}

/// Waits until udevd has nothing left to do.
pub(super) fn settle() -> Result<()> {
    run(command("udevadm").args(["settle", "--timeout=60"]))
}

/// What a map does with commands while it has no path.
#[derive(Clone, Copy)]
pub(super) enum WithoutPath {
    Fail,
    Queue,
}

/// multipathd, which most of the time is running.
pub(super) struct Multipathd {
    process: RefCell<Child>,
    strangers: Vec<String>,
}

impl Multipathd {
    /// Starts it in the foreground and waits until it answers.
    pub(super) fn start(strangers: Vec<String>) -> Result<Self> {
        // What it remembers: bindings, WWIDs, keys. Whatever the host has there is not for us.
        mount_new("tmpfs", "/etc/multipath")?;
        write(
            Path::new(CONFIGURATION),
            &configuration(Keys::InFile, WithoutPath::Fail, &strangers),
        )?;
        let daemon = Self {
            process: RefCell::new(launch()?),
            strangers,
        };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&self) -> Result<()> {
        let mut process = self.process.borrow_mut();
        process.kill().context("cannot kill multipathd")?;
        process.wait().context("cannot wait for multipathd")?;
        Ok(())
    }

    /// Starts it again, after [`Multipathd::kill`].
    pub(super) fn start_again(&self) -> Result<()> {
        *self.process.borrow_mut() = launch()?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let answers = poll(PATIENCE, || {
            let ended = self.process.borrow_mut().try_wait()?;
            ensure!(ended.is_none(), "multipathd has ended");
            Ok(self.ask(&["show", "daemon"]).ok())
        })?;
        answers.context("multipathd does not answer")?;
        Ok(())
    }

    /// Has it read its configuration anew, and waits until it has done so.
    pub(super) fn configure(&self, keys: Keys, without_path: WithoutPath) -> Result<()> {
        write(
            Path::new(CONFIGURATION),
            &configuration(keys, without_path, &self.strangers),
        )?;
        self.ask(&["reconfigure"])?;
        let done = poll(PATIENCE, || {
            let used = self.ask(&["show", "config", "local"])?;
            let is_idle = self.ask(&["show", "daemon"])?.contains("idle");
            let has_file = used.contains("reservation_key");
            Ok((is_idle && has_file == matches!(keys, Keys::InFile)).then_some(()))
        })?;
        done.context("multipathd does not take its configuration")
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

    fn signal(&self, number: Signal) -> Result<()> {
        signal(&self.process.borrow(), number).context("cannot signal multipathd")
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

fn launch() -> Result<Child> {
    start("multipathd", &["-d", "-s"], LOG)
}

fn signal(process: &Child, signal: Signal) -> rustix::io::Result<()> {
    kill_process(Pid::from_child(process), signal)
}

fn start(program: &str, arguments: &[&str], log: &str) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log);
    let output = output.with_context(|| format!("cannot open {log}"))?;
    let errors = output.try_clone()?;
    let mut process: Command = command(program);
    process.args(arguments).stdin(Stdio::null());
    process.stdout(output).stderr(errors);
    let started = process.spawn();
    started.with_context(|| format!("cannot start {program}"))
}
