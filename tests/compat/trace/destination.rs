// SPDX-License-Identifier: MIT OR Apache-2.0

//! Destination of the log: stderr or a file, and the creation of the file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Result, ensure};

use super::{
    ACCEPT, LISTEN, LISTEN_COMPLETE, SHARED, expect_events, logged_events, read_or_empty,
    traced_command, traced_stderr,
};
use crate::case::Case;
use crate::client::Client;
use crate::daemon::Daemon;
use crate::differences::Row;
use crate::helper::Helper;
use crate::need::Need;
use crate::process::wait_until;
use crate::scratch::Scratch;

/// Values, the resulting file, and the events that it contains.
const FILES: [(&str, &[&str], &str, &[&str]); 9] = [
    ("without_events", &["file={}/log"], "log", &[]),
    (
        "without_a_match",
        &["nothing_like_this*,file={}/log"],
        "log",
        &[],
    ),
    ("with_every_event", &["*,file={}/log"], "log", &SHARED),
    (
        "by_a_relative_name",
        &["socket_listen,file=log"],
        "log",
        &[LISTEN],
    ),
    (
        "before_enable",
        &["file={}/log,enable=socket_listen"],
        "log",
        &[LISTEN],
    ),
    (
        "with_a_comma",
        &["socket_listen,file={}/a,,b"],
        "a,b",
        &[LISTEN],
    ),
    (
        "with_an_equals_sign",
        &["socket_listen,file={}/a=b"],
        "a=b",
        &[LISTEN],
    ),
    (
        "named_last_in_a_value",
        &["socket_listen,file={}/none/log,file={}/log"],
        "log",
        &[LISTEN],
    ),
    (
        "named_by_the_last_option",
        &[
            "socket_listen,file={}/first",
            "qio_channel_socket_accept,file={}/log",
        ],
        "log",
        &[LISTEN, ACCEPT],
    ),
];

/// Values of which the last names no file.
const RESET: [(&str, &[&str], &[&str]); 3] = [
    (
        "another_option",
        &[
            "socket_listen,file={}/log",
            "qio_channel_socket_listen_complete",
        ],
        &[LISTEN, LISTEN_COMPLETE],
    ),
    (
        "an_empty_option",
        &["socket_listen,file={}/log", ""],
        &[LISTEN],
    ),
    (
        "another_option_after_an_invalid_file",
        &["socket_listen,file={}/none/log", ""],
        &[LISTEN],
    ),
];

/// Arguments after `-T file=log` with which the helper does not start.
const NOT_STARTED: [(&str, &[&str]); 3] = [
    ("version", &["-V"]),
    ("help", &["-h"]),
    ("a_relative_socket", &["-k", "relative"]),
];

/// A umask, and the resulting mode of the file.
const MODES: [(&str, u32); 3] = [("000", 0o666), ("022", 0o644), ("077", 0o600)];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, values, file, events) in FILES {
        cases.push(Case::new(format!("file_{name}"), move |helper| {
            let scratch = Scratch::new()?;
            let stderr = traced_stderr(helper, &scratch, values)?;
            ensure!(stderr.is_empty(), "{stderr}");
            expect_events(&fs::read_to_string(scratch.path(file))?, events)?;
            ensure!(scratch.names()? == [file], "{:?}", scratch.names()?);
            Ok(())
        }));
    }
    for (name, values, events) in RESET {
        cases.push(Case::new(format!("file_reset_by_{name}"), move |helper| {
            let scratch = Scratch::new()?;
            expect_events(&traced_stderr(helper, &scratch, values)?, events)?;
            ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
            Ok(())
        }));
    }
    for (name, arguments) in NOT_STARTED {
        cases.push(Case::new(
            format!("file_not_created_for_{name}"),
            move |helper| {
                let scratch = Scratch::new()?;
                let command = helper.command(&scratch).args(["-T", "file=log"]);
                command.args(arguments).finish()?;
                ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
                Ok(())
            },
        ));
    }
    for (mask, mode) in MODES {
        let name = format!("file_mode_with_umask_{mask}");
        cases.push(Case::new(name, move |helper| mode_of(helper, mask, mode)));
    }
    cases.extend([
        Case::new("file_is_created_before_the_first_event", created_at_start),
        Case::new("file_is_truncated", truncated),
        Case::new("file_that_is_a_link", link).row(Row::TraceLink),
        Case::new("file_that_is_a_link_of_the_system", system_link),
        Case::new("file_with_the_process_id", with_pid),
        Case::new("full_file_system_does_not_stop_the_helper", full),
        Case::new("file_is_accessible_by_root_only", root_only).needs(Need::Root),
        Case::new("file_of_a_daemon", daemon),
        Case::new("daemon_without_a_file", daemon_without_file),
    ]);
    cases
}

fn mode_of(helper: &Helper, mask: &str, mode: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = traced_command(helper, &scratch, &["file=log"]);
    let _running = command.pre_exec_shell(&format!("umask {mask};")).start()?;
    let found = fs::metadata(scratch.path("log"))?.permissions().mode() & 0o7777;
    ensure!(found == mode, "{found:o}");
    Ok(())
}

fn created_at_start(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let value = "qio_channel_socket_accept,file=log";
    let running = traced_command(helper, &scratch, &[value]).spawn()?;
    // No client has connected, so nothing has been logged.
    wait_until("the socket", || Ok(scratch.socket().exists()))?;
    ensure!(fs::read(scratch.path("log"))?.is_empty());
    drop(running);
    Ok(())
}

fn truncated(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("log"), "old\n".repeat(1000))?;
    traced_stderr(helper, &scratch, &["socket_listen,file=log"])?;
    let log = fs::read_to_string(scratch.path("log"))?;
    ensure!(log.lines().count() == 1, "{log}");
    expect_events(&log, &[LISTEN])
}

/// A link to a file that does not exist, and a link to a file with content.
fn link(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, log) = (scratch.path("target"), scratch.path("log"));
    symlink(&target, &log)?;
    let value = "socket_listen,file=log";
    if helper.differs(Row::TraceLink) {
        let reason = format!("'{}' is a symbolic link", log.display());
        let command = || traced_command(helper, &scratch, &[value]);
        command().finish()?.expect_failure(&reason)?;
        ensure!(!target.exists());
        fs::write(&target, "content\n")?;
        command().finish()?.expect_failure(&reason)?;
        let content = fs::read_to_string(target)?;
        ensure!(content == "content\n", "{content:?}");
        return Ok(());
    }
    traced_stderr(helper, &scratch, &[value])?;
    expect_events(&fs::read_to_string(target)?, &[LISTEN])
}

/// Links of the system in `/dev`.
fn system_link(helper: &Helper) -> Result<()> {
    for name in ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
        let scratch = Scratch::new()?;
        let value = format!("socket_listen,file={name}");
        expect_events(&traced_stderr(helper, &scratch, &[&value])?, &[LISTEN])?;
    }
    Ok(())
}

/// `%d` in the name is replaced with the ID of the process that opens the file.
fn with_pid(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let value = "socket_listen,file={}/log-%d.txt";
    let mut running = traced_command(helper, &scratch, &[value]).start()?;
    let name = format!("log-{}.txt", running.pid());
    ensure!(running.terminate()?.success());
    ensure!(
        scratch.names()? == [name.as_str()],
        "{:?}",
        scratch.names()?
    );
    expect_events(&fs::read_to_string(scratch.path(&name))?, &[LISTEN])
}

fn full(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = traced_command(helper, &scratch, &["*,file=/dev/full"]).start()?;
    running.client()?;
    ensure!(running.terminate()?.success());
    Ok(())
}

/// Waits for these events in a file. A helper can serve a client before it writes the events.
fn wait_for_events(path: &Path, events: &[&str]) -> Result<()> {
    wait_until(&format!("{events:?} in the file"), || {
        Ok(logged_events(&read_or_empty(path)) == events)
    })
}

/// The file is opened before the privileges are dropped, and written afterwards.
fn root_only(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::set_permissions(scratch.dir(), fs::Permissions::from_mode(0o700))?;
    let command = traced_command(helper, &scratch, &["*,file=log"]).pre_exec_shell("umask 077;");
    let running = command.args(["-u", "65534", "-g", "65534"]).start()?;
    ensure!(running.status_line("Uid").starts_with("65534\t"));
    wait_for_events(&scratch.path("log"), &SHARED)
}

/// A relative name is relative to the start directory, and the child continues to write.
fn daemon(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = traced_command(helper, &scratch, &["*,file=log"]);
    let command = command.arg("-d").arg("-f").arg(scratch.path("pid"));
    let finished = command.finish()?;
    let _daemon = Daemon::from_pidfile(&scratch.path("pid"))?;
    finished.expect_success()?;
    let log = scratch.path("log");
    wait_for_events(&log, &[LISTEN, LISTEN_COMPLETE])?;
    Client::connect(&scratch.socket())?.handshake()?;
    wait_for_events(&log, &SHARED)
}

/// The parent's stderr has the events before the child went into the background.
fn daemon_without_file(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = traced_command(helper, &scratch, &["*socket_*"]);
    let command = command.arg("-d").arg("-f").arg(scratch.path("pid"));
    let finished = command.finish()?;
    let _daemon = Daemon::from_pidfile(&scratch.path("pid"))?;
    ensure!(finished.status.success(), "{finished:?}");
    expect_events(&finished.stderr, &[LISTEN, LISTEN_COMPLETE])?;
    Client::connect(&scratch.socket())?.handshake()
}
