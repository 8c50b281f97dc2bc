//! Running in the background.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::case::{Case, Need};
use crate::client::Client;
use crate::differences::Row;
use crate::helper::Helper;
use crate::pidfile::lockable;
use crate::process::{Finished, wait_until};
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("parent_ends_well_and_the_child_serves", serves),
        Case::new("long_form_serves_too", long_form),
        Case::new("has_a_session_of_its_own", own_session),
        Case::new("works_in_the_root_folder", root_folder),
        Case::new("standard_streams_are_the_null_device", standard_streams),
        Case::new("pidfile_names_the_child_and_is_locked", pidfile),
        Case::new("inherited_descriptors_stay_open", inherited),
        Case::new("sigterm_removes_the_socket", sigterm),
        Case::new(
            "unreachable_socket_is_reported_by_the_parent",
            unreachable_socket,
        ),
        Case::new("relative_pidfile_is_below_the_root", relative_pidfile).needs(Need::Root),
        Case::new("locked_pidfile", locked_pidfile).row(Row::DaemonErrorLost),
        Case::new("unwritable_pidfile", unwritable_pidfile).row(Row::DaemonErrorLost),
    ]
}

/// A helper in the background. Killed with the value.
pub(crate) struct Daemon {
    pid: Pid,
}

impl Daemon {
    /// Starts one whose pidfile is `pid` and whose socket is `socket` in the case's folder.
    fn start(helper: &Helper, scratch: &Scratch, option: &str, prelude: &str) -> Result<Self> {
        let launch = helper.serving(scratch).arg(option);
        let launch = launch.arg("-f").arg(scratch.path("pid")).prelude(prelude);
        let finished = launch.finish()?;
        ensure!(finished.status.success(), "{finished:?}");
        let daemon = Self::of(&scratch.path("pid"))?;
        finished.succeeded()?;
        // The pidfile is there before signals are handled; the greeting comes after.
        Client::connect(&scratch.socket())?.handshake()?;
        Ok(daemon)
    }

    /// The one that wrote a pidfile.
    pub(crate) fn of(pidfile: &Path) -> Result<Self> {
        let mut pid = None;
        wait_until("the child's pidfile", || {
            let content = fs::read_to_string(pidfile).unwrap_or_default();
            pid = content
                .strip_suffix('\n')
                .and_then(|line| line.parse().ok());
            Ok(pid.is_some())
        })?;
        let pid = pid
            .and_then(Pid::from_raw)
            .context("no pid in the pidfile")?;
        Ok(Self { pid })
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; its number is not used again so soon.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

fn serves(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let _daemon = Daemon::start(helper, &scratch, "-d", "")?;
    Client::connect(&scratch.socket())?.handshake()
}

fn long_form(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let _daemon = Daemon::start(helper, &scratch, "--daemon", "")?;
    Client::connect(&scratch.socket())?.handshake()
}

fn own_session(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    let session = session_of(&daemon.file("stat"))?;
    ensure!(
        session != 0 && session != session_of("/proc/self/stat")?,
        "{session}"
    );
    Ok(())
}

/// The session of a process: 0 where its leader is outside this PID namespace, as it may be for these
/// tests in a container. (The number of a process is never 0, so getsid's wrappers do not expect it.)
fn session_of(stat: &str) -> Result<u32> {
    let stat = fs::read_to_string(stat)?;
    // proc(5): pid, (name), state, parent, group, session. A name may hold anything, a bracket too.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let session = fields.split_whitespace().nth(3).context("no session")?;
    Ok(session.parse()?)
}

fn root_folder(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    let folder = fs::read_link(daemon.file("cwd"))?;
    ensure!(folder == Path::new("/"), "{}", folder.display());
    Ok(())
}

fn standard_streams(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    for number in 0..3 {
        let file = fs::read_link(daemon.file(&format!("fd/{number}")))?;
        ensure!(
            file == Path::new("/dev/null"),
            "{number}: {}",
            file.display()
        );
    }
    Ok(())
}

fn pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let _daemon = Daemon::start(helper, &scratch, "-d", "")?;
    ensure!(!lockable(&scratch.path("pid"))?);
    Ok(())
}

fn inherited(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "exec 7>kept;")?;
    let file = fs::read_link(daemon.file("fd/7"))?;
    ensure!(file == scratch.path("kept"), "{}", file.display());
    Ok(())
}

fn sigterm(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    kill_process(daemon.pid, Signal::TERM)?;
    wait_until("the socket's removal", || Ok(!scratch.socket().exists()))?;
    wait_until("the daemon's end", || {
        lockable(&scratch.path("pid")).or(Ok(true))
    })
}

fn unreachable_socket(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = helper
        .bare(&scratch)
        .args(["-d", "-k", "/no/such/folder/s"]);
    let finished = launch.arg("-f").arg(scratch.path("pid")).finish()?;
    finished.refused("/no/such/folder/s")?;
    ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
    Ok(())
}

/// A relative pidfile is opened after the change of folder.
fn relative_pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let unique = scratch.folder().file_name().context("no name")?;
    let pidfile = Path::new("/").join(unique);
    let launch = helper.serving(&scratch).arg("-d").arg("-f").arg(unique);
    let finished = launch.finish()?;
    // The guard first: whatever is wrong, no daemon and no file in the root folder stay behind.
    let daemon = Daemon::of(&pidfile);
    let removed = fs::remove_file(&pidfile);
    finished.succeeded()?;
    let _daemon = daemon?;
    removed?;
    ensure!(!scratch.path(&unique.to_string_lossy()).exists());
    Ok(())
}

fn locked_pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let first = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    let launch = helper.bare(&scratch).arg("-k").arg(scratch.path("other"));
    let finished = launch
        .arg("-d")
        .arg("-f")
        .arg(scratch.path("pid"))
        .finish()?;
    late_error(helper, &finished, "lock")?;
    let content = fs::read_to_string(scratch.path("pid"))?;
    ensure!(content == format!("{}\n", first.pid()), "{content:?}");
    Ok(())
}

fn unwritable_pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = helper
        .serving(&scratch)
        .args(["-d", "-f", "/no/such/folder/p"]);
    late_error(helper, &launch.finish()?, "/no/such/folder/p")
}

/// What the parent of a daemon says that cannot have its pidfile.
fn late_error(helper: &Helper, finished: &Finished, word: &str) -> Result<()> {
    if helper.differs(Row::DaemonErrorLost) {
        return finished.refused(word);
    }
    finished.succeeded()
}
