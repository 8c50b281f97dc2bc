// SPDX-License-Identifier: MIT OR Apache-2.0

//! The socket file: creation, permissions, and removal.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::case::Case;
use crate::client::{pr_in, pr_out};
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::{LISTENING, wait_until};
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for mask in [0o000, 0o022, 0o077, 0o177] {
        cases.push(Case::new(
            format!("mode_follows_umask_{mask:03o}"),
            move |helper| mode_follows(helper, mask),
        ));
    }
    for (name, signal) in [
        ("sigterm", Signal::TERM),
        ("sigint", Signal::INT),
        ("sighup", Signal::HUP),
    ] {
        let name = format!("{name}_exits_with_0_and_removes_the_socket");
        cases.push(Case::new(name, move |helper| exits_on(helper, signal)));
    }
    cases.extend([
        Case::new("directory_at_the_path_is_rejected", directory_at_the_path),
        Case::new("stale_socket_is_replaced", stale_socket),
        Case::new("socket_left_by_a_kill_is_replaced", left_by_a_kill),
        Case::new("symbolic_link_to_nothing_is_replaced", link_to_nothing),
        Case::new("no_other_file_is_created", no_other_file),
        Case::new(
            "removed_socket_does_not_prevent_a_clean_exit",
            removed_socket,
        ),
        Case::new("live_socket_of_another_instance", live_socket).row(Row::SocketTheft),
        Case::new("foreign_file_at_exit", foreign_file_at_exit).row(Row::ForeignFileAtExit),
        Case::new("regular_file_at_start", regular_file_at_start).row(Row::ForeignFileAtStart),
        Case::new("fifo_at_start", fifo_at_start).row(Row::ForeignFileAtStart),
        Case::new("sigpipe_is_ignored", sigpipe_is_ignored),
        Case::new("closed_stderr_pipe_is_tolerated", closed_stderr_pipe),
        Case::new("inherited_descriptors_stay_open", inherited_descriptors),
        Case::new("inherited_lock_stays_held", inherited_lock),
        Case::new("sigterm_with_an_idle_client_exits_at_once", |helper| {
            exits_with_client(helper, &[0; 4])
        }),
        Case::new("sigterm_during_a_handshake_exits_at_once", |helper| {
            exits_with_client(helper, &[0; 2])
        }),
        Case::new("sigterm_during_a_cdb_exits_at_once", |helper| {
            exits_with_client(helper, &[0, 0, 0, 0, 0x5e, 0, 0])
        }),
        Case::new(
            "sigterm_during_parameters_exits_at_once",
            sigterm_during_parameters,
        ),
        Case::new("quiet_suppresses_client_errors", quiet),
        Case::new("start_is_reported", start_is_reported).row(Row::ListeningLine),
    ]);
    cases
}

fn mode_follows(helper: &Helper, mask: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = helper
        .serving_command(&scratch)
        .pre_exec_shell(&format!("umask {mask:03o};"));
    let _running = command.start()?;
    let metadata = fs::metadata(scratch.socket())?;
    ensure!(metadata.file_type().is_socket());
    let mode = metadata.permissions().mode() & 0o7777;
    ensure!(mode == 0o777 & !mask, "mode {mode:o} with umask {mask:o}");
    Ok(())
}

fn exits_on(helper: &Helper, signal: Signal) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    running.signal(signal);
    let status = running.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(
        scratch.names()?.is_empty(),
        "not removed: {:?}",
        scratch.names()?
    );
    ensure!(running.stderr().is_empty(), "{}", running.stderr());
    Ok(())
}

fn directory_at_the_path(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::create_dir(scratch.socket())?;
    helper
        .serving_command(&scratch)
        .finish()?
        .expect_failure("socket")?;
    ensure!(scratch.socket().is_dir());
    Ok(())
}

fn stale_socket(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    drop(UnixListener::bind(scratch.socket())?);
    ensure!(scratch.socket().exists());
    let mut running = helper.serving_command(&scratch).start()?;
    ensure!(scratch.names()? == ["socket"], "{:?}", scratch.names()?);
    ensure!(running.terminate()?.success());
    Ok(())
}

fn left_by_a_kill(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut first = helper.serving_command(&scratch).start()?;
    first.signal(Signal::KILL);
    first.wait()?;
    ensure!(scratch.socket().exists());
    helper.serving_command(&scratch).start()?;
    Ok(())
}

fn link_to_nothing(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    symlink("/no/such/file", scratch.socket())?;
    let _running = helper.serving_command(&scratch).start()?;
    let file_type = fs::symlink_metadata(scratch.socket())?.file_type();
    ensure!(file_type.is_socket(), "{file_type:?}");
    Ok(())
}

fn no_other_file(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    ensure!(scratch.names()? == ["socket"], "{:?}", scratch.names()?);
    running.terminate()?;
    ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
    Ok(())
}

fn removed_socket(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    fs::remove_file(scratch.socket())?;
    ensure!(running.terminate()?.success());
    ensure!(running.stderr().is_empty(), "{}", running.stderr());
    Ok(())
}

fn start_is_reported(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    ensure!(running.terminate()?.success());
    let expected = match helper.differs(Row::ListeningLine) {
        true => format!("{LISTENING}{}\n", scratch.socket().display()),
        false => String::new(),
    };
    let lines = running.whole_stderr();
    let lines: String = lines
        .split_inclusive('\n')
        .filter(|line| !line.contains("no CAP_SYS_RAWIO"))
        .collect();
    ensure!(lines == expected, "{lines}");
    Ok(())
}

fn live_socket(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut first = helper.serving_command(&scratch).start()?;
    let inode = fs::metadata(scratch.socket())?.ino();
    if helper.differs(Row::SocketTheft) {
        let path = scratch.socket().display().to_string();
        let second = helper.serving_command(&scratch).finish()?;
        second.expect_failure(&path)?;
        second.expect_failure("in use")?;
        ensure!(fs::metadata(scratch.socket())?.ino() == inode);
        ensure!(scratch.names()? == ["socket"], "{:?}", scratch.names()?);
        first.client()?;
        return Ok(());
    }
    let mut second = helper.serving_command(&scratch).spawn()?;
    wait_until("the replaced socket", || {
        Ok(fs::metadata(scratch.socket()).is_ok_and(|now| now.ino() != inode))
    })?;
    second.wait_until_ready()?;
    ensure!(first.terminate()?.success());
    ensure!(
        !scratch.socket().exists(),
        "the second helper's socket was not removed"
    );
    ensure!(second.try_wait()?.is_none());
    Ok(())
}

fn foreign_file_at_exit(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    fs::remove_file(scratch.socket())?;
    fs::write(scratch.socket(), "foreign")?;
    ensure!(running.terminate()?.success());
    let kept = scratch.socket().exists();
    ensure!(
        kept == helper.differs(Row::ForeignFileAtExit),
        "kept: {kept}"
    );
    Ok(())
}

fn regular_file_at_start(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.socket(), "foreign")?;
    foreign_file(helper, &scratch)?;
    if helper.differs(Row::ForeignFileAtStart) {
        ensure!(fs::read(scratch.socket())? == b"foreign");
    }
    Ok(())
}

fn fifo_at_start(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    make_fifo(&scratch.socket())?;
    foreign_file(helper, &scratch)?;
    if helper.differs(Row::ForeignFileAtStart) {
        ensure!(fs::metadata(scratch.socket())?.file_type().is_fifo());
    }
    Ok(())
}

pub(crate) fn make_fifo(path: &Path) -> Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context("cannot create a FIFO")
}

/// Starts a helper with a socket path at which a file of another type exists.
fn foreign_file(helper: &Helper, scratch: &Scratch) -> Result<()> {
    if helper.differs(Row::ForeignFileAtStart) {
        let path = scratch.socket().display().to_string();
        return helper
            .serving_command(scratch)
            .finish()?
            .expect_failure(&path);
    }
    let _running = helper.serving_command(scratch).start()?;
    ensure!(fs::metadata(scratch.socket())?.file_type().is_socket());
    Ok(())
}

fn sigpipe_is_ignored(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let ignored = u64::from_str_radix(&running.status_line("SigIgn"), 16)?;
    ensure!(ignored & (1 << 12) != 0, "SigIgn {ignored:x}");
    Ok(())
}

/// A service manager can close its end of stderr once the helper is ready.
fn closed_stderr_pipe(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let (read, write) = rustix::pipe::pipe()?;
    let command = helper.serving_command(&scratch).arg("-v").stdin(write);
    let mut running = command.pre_exec_shell("exec 2>&0 0</dev/null;").start()?;
    drop(read);
    for _ in 0..3 {
        let mut client = running.client()?;
        client.send(&pr_in(0, 8))?;
        client.expect_closed()?;
    }
    ensure!(running.terminate()?.success());
    Ok(())
}

fn inherited_descriptors(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let kept = scratch.path("kept");
    let command = helper.serving_command(&scratch);
    let running = command.pre_exec_shell("exec 7>kept 9</dev/zero;").start()?;
    let link = |number: u8| fs::read_link(format!("/proc/{}/fd/{number}", running.pid()));
    ensure!(link(7)? == kept);
    ensure!(link(9)? == Path::new("/dev/zero"));
    Ok(())
}

/// libvirt detects whether its helper runs by a lock that the helper has inherited.
fn inherited_lock(helper: &Helper) -> Result<()> {
    use rustix::fs::{FlockOperation, flock};
    let scratch = Scratch::new()?;
    let locked = File::create(scratch.path("lock"))?;
    flock(&locked, FlockOperation::NonBlockingLockExclusive)?;
    let command = helper.serving_command(&scratch).stdin(locked);
    let mut running = command.pre_exec_shell("exec 8<&0 0</dev/null;").start()?;
    let other = File::open(scratch.path("lock"))?;
    ensure!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
    running.terminate()?;
    flock(&other, FlockOperation::NonBlockingLockExclusive)?;
    Ok(())
}

fn exits_with_client(helper: &Helper, sent: &[u8]) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    let mut client = running.connect()?;
    client.receive(4)?;
    client.send(sent)?;
    let status = running.terminate()?;
    ensure!(status.code() == Some(0), "{status}");
    client.expect_closed()?;
    ensure!(!scratch.socket().exists());
    Ok(())
}

fn sigterm_during_parameters(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    use std::os::fd::AsFd;
    client.send_with(&pr_out(0, 0, 24), &[null.as_fd()])?;
    client.send(&[0; 10])?;
    ensure!(running.terminate()?.code() == Some(0));
    client.expect_closed()
}

fn quiet(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).arg("-q").start()?;
    let mut client = running.client()?;
    client.send(&[0xff; 16])?;
    client.expect_closed()?;
    ensure!(running.terminate()?.success());
    ensure!(
        running.whole_stderr().is_empty(),
        "{}",
        running.whole_stderr()
    );
    Ok(())
}
