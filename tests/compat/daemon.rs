// SPDX-License-Identifier: MIT OR Apache-2.0

//! Running in the background.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::case::Case;
use crate::client::Client;
use crate::differences::Row;
use crate::helper::Helper;
use crate::need::Need;
use crate::pidfile::{can_lock, expect_pid, with_pidfile};
use crate::process::{Finished, wait_until};
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("parent_exits_with_0_and_child_serves", serves),
        Case::new("long_form_serves_too", long_form),
        Case::new("has_a_session_of_its_own", own_session),
        Case::new("works_in_the_root_directory", root_directory),
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

/// A helper in the background, which is killed when the value is dropped.
pub(crate) struct Daemon {
    pid: Pid,
}

impl Daemon {
    /// Starts a daemon with the pidfile `pid` and the socket `socket` in the case's directory.
    fn start(
        helper: &Helper,
        scratch: &Scratch,
        option: &str,
        pre_exec_shell: &str,
    ) -> Result<Self> {
        let command = helper.serving_command(scratch).arg(option);
        let command = command
            .arg("-f")
            .arg(scratch.path("pid"))
            .pre_exec_shell(pre_exec_shell);
        let finished = command.finish()?;
        ensure!(finished.status.success(), "{finished:?}");
        let daemon = Self::from_pidfile(&scratch.path("pid"))?;
        finished.expect_success()?;
        // The pidfile is written before signals are handled; the greeting is sent afterwards.
        Client::connect(&scratch.socket())?.handshake()?;
        Ok(daemon)
    }

    /// Returns the daemon that wrote a pidfile.
    pub(crate) fn from_pidfile(pidfile: &Path) -> Result<Self> {
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

    fn proc_path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The process can have exited; its ID is not reused that soon.
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
    let session = session_of(&daemon.proc_path("stat"))?;
    ensure!(
        session != 0 && session != session_of("/proc/self/stat")?,
        "{session}"
    );
    Ok(())
}

/// Returns the session of a process. It is 0 if the session leader is outside of this PID
/// namespace, which is possible for tests in a container. (getsid's wrappers do not expect 0,
/// because a process ID is never 0.)
fn session_of(stat: &str) -> Result<u32> {
    let stat = fs::read_to_string(stat)?;
    // proc(5): pid, (name), state, parent, group, session. A name can contain any character,
    // including `)`.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let session = fields.split_whitespace().nth(3).context("no session")?;
    Ok(session.parse()?)
}

fn root_directory(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    let dir = fs::read_link(daemon.proc_path("cwd"))?;
    ensure!(dir == Path::new("/"), "{}", dir.display());
    Ok(())
}

fn standard_streams(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    for number in 0..3 {
        let file = fs::read_link(daemon.proc_path(&format!("fd/{number}")))?;
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
    ensure!(!can_lock(&scratch.path("pid"))?);
    Ok(())
}

fn inherited(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "exec 7>kept;")?;
    let file = fs::read_link(daemon.proc_path("fd/7"))?;
    ensure!(file == scratch.path("kept"), "{}", file.display());
    Ok(())
}

fn sigterm(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(helper, &scratch, "-d", "")?;
    kill_process(daemon.pid, Signal::TERM)?;
    wait_until("the socket's removal", || Ok(!scratch.socket().exists()))?;
    wait_until("the daemon's exit", || {
        can_lock(&scratch.path("pid")).or(Ok(true))
    })
}

fn unreachable_socket(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = helper
        .command(&scratch)
        .args(["-d", "-k", "/no/such/dir/s"]);
    let finished = command.arg("-f").arg(scratch.path("pid")).finish()?;
    finished.expect_failure("/no/such/dir/s")?;
    ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
    Ok(())
}

/// A relative pidfile is opened after the change to the root directory.
fn relative_pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let unique = scratch.dir().file_name().context("no name")?;
    let pidfile = Path::new("/").join(unique);
    let command = helper
        .serving_command(&scratch)
        .arg("-d")
        .arg("-f")
        .arg(unique);
    let finished = command.finish()?;
    // Create the guard first, so that no daemon and no file in the root directory remain after an
    // error.
    let daemon = Daemon::from_pidfile(&pidfile);
    let removed = fs::remove_file(&pidfile);
    finished.expect_success()?;
    let _daemon = daemon?;
    removed?;
    ensure!(!scratch.path(&unique.to_string_lossy()).exists());
    Ok(())
}

fn locked_pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let first = with_pidfile(helper, &scratch).start()?;
    let command = helper
        .command(&scratch)
        .arg("-k")
        .arg(scratch.path("other"));
    let finished = command
        .arg("-d")
        .arg("-f")
        .arg(scratch.path("pid"))
        .finish()?;
    late_error(helper, &finished, "lock")?;
    socket_left(helper, &scratch.path("other"))?;
    expect_pid(&scratch.path("pid"), &first)
}

fn unwritable_pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = helper
        .serving_command(&scratch)
        .args(["-d", "-f", "/no/such/dir/p"]);
    late_error(helper, &command.finish()?, "/no/such/dir/p")?;
    socket_left(helper, &scratch.socket())
}

/// Checks that only QEMU's helper has created its socket before it fails because of its pidfile.
fn socket_left(helper: &Helper, socket: &Path) -> Result<()> {
    if helper.differs(Row::DaemonErrorLost) {
        ensure!(!socket.exists(), "{} exists", socket.display());
        return Ok(());
    }
    wait_until("the socket of QEMU's helper", || Ok(socket.exists()))
}

/// Checks the output of the parent of a daemon that cannot create its pidfile.
fn late_error(helper: &Helper, finished: &Finished, word: &str) -> Result<()> {
    if helper.differs(Row::DaemonErrorLost) {
        return finished.expect_failure(word);
    }
    finished.expect_success()
}
