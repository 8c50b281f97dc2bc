// SPDX-License-Identifier: MIT OR Apache-2.0

//! The pidfile: its content and its lock.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{CWD, FlockOperation, Mode, fcntl_lock, mkfifoat};
use rustix::process::Signal;

use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::{HelperCommand, Running, wait_until};
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, path) in [
        ("empty_path", ""),
        ("path_in_a_missing_directory", "/no/such/dir/pid"),
        ("path_of_a_directory", "/tmp"),
    ] {
        cases.push(Case::new(format!("{name}_is_rejected"), move |helper| {
            let scratch = Scratch::new()?;
            let command = helper.serving_command(&scratch).args(["-f", path]);
            command.finish()?.expect_failure(path)
        }));
    }
    for mask in [0o000, 0o022, 0o177] {
        let name = format!("mode_is_0600_with_umask_{mask:03o}");
        cases.push(Case::new(name, move |helper| mode_is_private(helper, mask)));
    }
    cases.extend([
        Case::new("contains_the_pid_and_a_newline", contains_the_pid),
        Case::new("long_form_is_written", long_form),
        Case::new(
            "relative_path_is_relative_to_the_start_directory",
            relative_path,
        ),
        Case::new("is_locked_while_the_helper_runs", is_locked),
        Case::new("lock_is_released_by_a_kill", lock_is_released),
        Case::new("second_instance_is_rejected", second_instance),
        Case::new("old_content_is_replaced", old_content),
        Case::new("symbolic_link", link).row(Row::PidfileLink),
        Case::new("named_pipe", named_pipe).row(Row::PidfileLink),
        Case::new("mode_of_an_old_file_is_kept", old_mode),
        Case::new("after_exit", after_exit).row(Row::PidfileLeft),
    ]);
    cases
}

/// Returns whether this process can take the lock of the pidfile's owner.
pub(crate) fn can_lock(path: &Path) -> Result<bool> {
    let file = File::options().read(true).write(true).open(path)?;
    Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// Prepares a start with the pidfile `pid` in the case's directory.
pub(crate) fn with_pidfile(helper: &Helper, scratch: &Scratch) -> HelperCommand {
    helper.serving_command(scratch).args(["-f", "pid"])
}

/// Checks that a pidfile contains the ID of a process, and nothing else.
pub(crate) fn expect_pid(path: &Path, running: &Running) -> Result<()> {
    let content = fs::read_to_string(path)?;
    ensure!(content == format!("{}\n", running.pid()), "{content:?}");
    Ok(())
}

fn contains_the_pid(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = with_pidfile(helper, &scratch).start()?;
    expect_pid(&scratch.path("pid"), &running)
}

fn long_form(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path("pid");
    let option = format!("--pidfile={}", path.display());
    let _running = helper.serving_command(&scratch).arg(option).start()?;
    ensure!(path.exists());
    Ok(())
}

fn relative_path(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::create_dir(scratch.path("dir"))?;
    let command = with_pidfile(helper, &scratch);
    let _running = command.current_dir(&scratch.path("dir")).start()?;
    ensure!(scratch.path("dir/pid").exists());
    Ok(())
}

fn mode_is_private(helper: &Helper, mask: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = with_pidfile(helper, &scratch);
    let _running = command
        .pre_exec_shell(&format!("umask {mask:03o};"))
        .start()?;
    let mode = fs::metadata(scratch.path("pid"))?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "mode {mode:o}");
    Ok(())
}

fn is_locked(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let _running = with_pidfile(helper, &scratch).start()?;
    ensure!(!can_lock(&scratch.path("pid"))?);
    Ok(())
}

fn lock_is_released(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = with_pidfile(helper, &scratch).start()?;
    running.signal(Signal::KILL);
    running.wait()?;
    ensure!(can_lock(&scratch.path("pid"))?);
    let again = with_pidfile(helper, &scratch).start()?;
    expect_pid(&scratch.path("pid"), &again)
}

fn second_instance(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let first = with_pidfile(helper, &scratch).start()?;
    let command = helper
        .command(&scratch)
        .arg("-k")
        .arg(scratch.path("other"));
    command
        .args(["-f", "pid"])
        .finish()?
        .expect_failure("lock")?;
    expect_pid(&scratch.path("pid"), &first)?;
    ensure!(!can_lock(&scratch.path("pid"))?);
    first.client()?;
    Ok(())
}

fn old_content(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("pid"), "a line that is longer than any pid\n")?;
    let running = with_pidfile(helper, &scratch).start()?;
    expect_pid(&scratch.path("pid"), &running)
}

/// A link to a file that does not exist, and a link to a file with content.
fn link(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    symlink(scratch.path("target"), scratch.path("pid"))?;
    let command = || with_pidfile(helper, &scratch);
    if helper.differs(Row::PidfileLink) {
        command()
            .finish()?
            .expect_failure("'pid' is a symbolic link")?;
        ensure!(!scratch.path("target").exists());
        fs::write(scratch.path("target"), "content\n")?;
        command()
            .finish()?
            .expect_failure("'pid' is a symbolic link")?;
        let content = fs::read_to_string(scratch.path("target"))?;
        ensure!(content == "content\n", "{content:?}");
        return Ok(());
    }
    let running = command().start()?;
    expect_pid(&scratch.path("target"), &running)
}

/// A pipe without a reader: the original blocks and does not serve its socket.
fn named_pipe(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    mkfifoat(CWD, scratch.path("pid"), Mode::RUSR | Mode::WUSR)?;
    let command = with_pidfile(helper, &scratch);
    if helper.differs(Row::PidfileLink) {
        return command
            .finish()?
            .expect_failure("'pid' is not a regular file");
    }
    let _waiting = command.spawn()?;
    wait_until("the socket", || Ok(scratch.socket().exists()))
}

fn old_mode(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("pid"), "")?;
    fs::set_permissions(scratch.path("pid"), PermissionsExt::from_mode(0o640))?;
    let _running = with_pidfile(helper, &scratch).start()?;
    let mode = fs::metadata(scratch.path("pid"))?.permissions().mode() & 0o7777;
    ensure!(mode == 0o640, "mode {mode:o}");
    Ok(())
}

fn after_exit(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = with_pidfile(helper, &scratch).start()?;
    ensure!(running.terminate()?.success());
    let exists = scratch.path("pid").exists();
    ensure!(
        exists != helper.differs(Row::PidfileLeft),
        "exists: {exists}"
    );
    Ok(())
}
