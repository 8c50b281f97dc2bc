//! The pidfile: what is in it, and the lock that a manager relies on.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{CWD, FlockOperation, Mode, fcntl_lock, mkfifoat};
use rustix::process::Signal;

use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::wait_until;
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, path) in [
        ("empty_path", ""),
        ("path_in_a_missing_folder", "/no/such/folder/pid"),
        ("path_of_a_folder", "/tmp"),
    ] {
        cases.push(Case::new(format!("{name}_is_refused"), move |helper| {
            let scratch = Scratch::new()?;
            let launch = helper.serving(&scratch).args(["-f", path]);
            launch.finish()?.refused(path)
        }));
    }
    for mask in [0o000, 0o022, 0o177] {
        let name = format!("mode_is_0600_with_umask_{mask:03o}");
        cases.push(Case::new(name, move |helper| mode_is_private(helper, mask)));
    }
    cases.extend([
        Case::new("holds_the_pid_and_a_newline", holds_the_pid),
        Case::new("long_form_is_written_too", long_form),
        Case::new("relative_path_is_relative_to_the_start", relative_path),
        Case::new("is_locked_while_the_helper_runs", is_locked),
        Case::new("lock_is_gone_with_a_killed_helper", lock_is_gone),
        Case::new("second_instance_is_refused", second_instance),
        Case::new("old_content_is_replaced", old_content),
        Case::new("symbolic_link", link).row(Row::PidfileLink),
        Case::new("named_pipe", named_pipe).row(Row::PidfileLink),
        Case::new("mode_of_an_old_file_is_kept", old_mode),
        Case::new("after_the_end", after_the_end).row(Row::PidfileLeft),
    ]);
    cases
}

/// Whether this process can take the lock that a pidfile's owner holds.
pub(crate) fn lockable(path: &Path) -> Result<bool> {
    let file = File::options().read(true).write(true).open(path)?;
    Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

fn holds_the_pid(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    let content = fs::read_to_string(scratch.path("pid"))?;
    ensure!(content == format!("{}\n", running.pid()), "{content:?}");
    Ok(())
}

fn long_form(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path("pid");
    let option = format!("--pidfile={}", path.display());
    let _running = helper.serving(&scratch).arg(option).start()?;
    ensure!(path.exists());
    Ok(())
}

fn relative_path(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::create_dir(scratch.path("folder"))?;
    let launch = helper.serving(&scratch).args(["-f", "pid"]);
    let _running = launch.current_folder(&scratch.path("folder")).start()?;
    ensure!(scratch.path("folder/pid").exists());
    Ok(())
}

fn mode_is_private(helper: &Helper, mask: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = helper.serving(&scratch).args(["-f", "pid"]);
    let _running = launch.prelude(&format!("umask {mask:03o};")).start()?;
    let mode = fs::metadata(scratch.path("pid"))?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "mode {mode:o}");
    Ok(())
}

fn is_locked(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let _running = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    ensure!(!lockable(&scratch.path("pid"))?);
    Ok(())
}

fn lock_is_gone(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    running.signal(Signal::KILL)?;
    running.wait()?;
    ensure!(lockable(&scratch.path("pid"))?);
    let again = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    let content = fs::read_to_string(scratch.path("pid"))?;
    ensure!(content == format!("{}\n", again.pid()), "{content:?}");
    Ok(())
}

fn second_instance(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let first = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    let launch = helper.bare(&scratch).arg("-k").arg(scratch.path("other"));
    launch.args(["-f", "pid"]).finish()?.refused("lock")?;
    let content = fs::read_to_string(scratch.path("pid"))?;
    ensure!(content == format!("{}\n", first.pid()), "{content:?}");
    ensure!(!lockable(&scratch.path("pid"))?);
    first.client()?;
    Ok(())
}

fn old_content(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("pid"), "a line that is longer than any pid\n")?;
    let running = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    let content = fs::read_to_string(scratch.path("pid"))?;
    ensure!(content == format!("{}\n", running.pid()), "{content:?}");
    Ok(())
}

/// A link to a file that does not exist, and to one that has content.
fn link(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    symlink(scratch.path("target"), scratch.path("pid"))?;
    let launch = || helper.serving(&scratch).args(["-f", "pid"]);
    if helper.differs(Row::PidfileLink) {
        launch().finish()?.refused("'pid' is a symbolic link")?;
        ensure!(!scratch.path("target").exists());
        fs::write(scratch.path("target"), "content\n")?;
        launch().finish()?.refused("'pid' is a symbolic link")?;
        let content = fs::read_to_string(scratch.path("target"))?;
        ensure!(content == "content\n", "{content:?}");
        return Ok(());
    }
    let running = launch().start()?;
    let content = fs::read_to_string(scratch.path("target"))?;
    ensure!(content == format!("{}\n", running.pid()), "{content:?}");
    Ok(())
}

/// A pipe without a reader: the original waits for one, with a socket that it does not serve.
fn named_pipe(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    mkfifoat(CWD, scratch.path("pid"), Mode::RUSR | Mode::WUSR)?;
    let launch = helper.serving(&scratch).args(["-f", "pid"]);
    if helper.differs(Row::PidfileLink) {
        return launch.finish()?.refused("'pid' is not a regular file");
    }
    let _waiting = launch.spawn()?;
    wait_until("the socket", || Ok(scratch.socket().exists()))
}

fn old_mode(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("pid"), "")?;
    fs::set_permissions(scratch.path("pid"), PermissionsExt::from_mode(0o640))?;
    let _running = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    let mode = fs::metadata(scratch.path("pid"))?.permissions().mode() & 0o7777;
    ensure!(mode == 0o640, "mode {mode:o}");
    Ok(())
}

fn after_the_end(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving(&scratch).args(["-f", "pid"]).start()?;
    ensure!(running.terminate()?.success());
    let left = scratch.path("pid").exists();
    ensure!(left != helper.differs(Row::PidfileLeft), "left: {left}");
    Ok(())
}
