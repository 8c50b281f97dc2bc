//! Where the log goes: stderr or a file, and when that file is made.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Result, ensure};

use super::{
    ACCEPT, LISTEN, LISTEN_COMPLETE, SHARED, fired, has_fired, stderr_of, text_of, tracing,
};
use crate::case::{Case, Need};
use crate::client::Client;
use crate::daemon::Daemon;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::wait_until;
use crate::scratch::Scratch;

/// Values, the file that there is then, and the events that it has lines of.
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
        "another_option_though_it_could_not_be_made",
        &["socket_listen,file={}/none/log", ""],
        &[LISTEN],
    ),
];

/// Arguments behind `-T file=log` with which nothing is started.
const NOT_STARTED: [(&str, &[&str]); 3] = [
    ("version", &["-V"]),
    ("help", &["-h"]),
    ("a_relative_socket", &["-k", "relative"]),
];

/// A mask of the start, and the mode of the file.
const MODES: [(&str, u32); 3] = [("000", 0o666), ("022", 0o644), ("077", 0o600)];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, values, file, events) in FILES {
        cases.push(Case::new(format!("file_{name}"), move |helper| {
            let scratch = Scratch::new()?;
            let stderr = stderr_of(helper, &scratch, values)?;
            ensure!(stderr.is_empty(), "{stderr}");
            has_fired(&fs::read_to_string(scratch.path(file))?, events)?;
            ensure!(scratch.names()? == [file], "{:?}", scratch.names()?);
            Ok(())
        }));
    }
    for (name, values, events) in RESET {
        cases.push(Case::new(
            format!("file_forgotten_by_{name}"),
            move |helper| {
                let scratch = Scratch::new()?;
                has_fired(&stderr_of(helper, &scratch, values)?, events)?;
                ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
                Ok(())
            },
        ));
    }
    for (name, arguments) in NOT_STARTED {
        cases.push(Case::new(
            format!("file_not_made_for_{name}"),
            move |helper| {
                let scratch = Scratch::new()?;
                let launch = helper.bare(&scratch).args(["-T", "file=log"]);
                launch.args(arguments).finish()?;
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
        Case::new("file_is_made_before_anything_is_logged", made_at_start),
        Case::new("file_is_emptied", emptied),
        Case::new("file_that_is_a_link", link).row(Row::TraceLink),
        Case::new("file_that_is_a_link_of_the_system", system_link),
        Case::new("file_with_the_number_of_the_process", numbered),
        Case::new("file_that_is_full_is_no_end", full),
        Case::new("file_is_for_root_alone", for_root).needs(Need::Root),
        Case::new("file_of_a_daemon", daemon),
        Case::new("daemon_without_a_file", daemon_without_file),
    ]);
    cases
}

fn mode_of(helper: &Helper, mask: &str, mode: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = tracing(helper, &scratch, &["file=log"]);
    let _running = launch.prelude(&format!("umask {mask};")).start()?;
    let found = fs::metadata(scratch.path("log"))?.permissions().mode() & 0o7777;
    ensure!(found == mode, "{found:o}");
    Ok(())
}

fn made_at_start(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let value = "qio_channel_socket_accept,file=log";
    let running = tracing(helper, &scratch, &[value]).spawn()?;
    // No client yet: nothing that could be logged has happened.
    wait_until("the socket", || Ok(scratch.socket().exists()))?;
    ensure!(fs::read(scratch.path("log"))?.is_empty());
    drop(running);
    Ok(())
}

fn emptied(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("log"), "old\n".repeat(1000))?;
    stderr_of(helper, &scratch, &["socket_listen,file=log"])?;
    let log = fs::read_to_string(scratch.path("log"))?;
    ensure!(log.lines().count() == 1, "{log}");
    has_fired(&log, &[LISTEN])
}

/// A link to a file that does not exist, and to one that has content.
fn link(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, log) = (scratch.path("target"), scratch.path("log"));
    symlink(&target, &log)?;
    let value = "socket_listen,file=log";
    if helper.differs(Row::TraceLink) {
        let reason = format!("'{}' is a symbolic link", log.display());
        let launch = || tracing(helper, &scratch, &[value]);
        launch().finish()?.refused(&reason)?;
        ensure!(!target.exists());
        fs::write(&target, "content\n")?;
        launch().finish()?.refused(&reason)?;
        let content = fs::read_to_string(target)?;
        ensure!(content == "content\n", "{content:?}");
        return Ok(());
    }
    stderr_of(helper, &scratch, &[value])?;
    has_fired(&fs::read_to_string(target)?, &[LISTEN])
}

/// Links that the system makes in `/dev`.
fn system_link(helper: &Helper) -> Result<()> {
    for name in ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
        let scratch = Scratch::new()?;
        let value = format!("socket_listen,file={name}");
        has_fired(&stderr_of(helper, &scratch, &[&value])?, &[LISTEN])?;
    }
    Ok(())
}

/// `%d` in the name is the number of the process that opens it.
fn numbered(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let value = "socket_listen,file={}/log-%d.txt";
    let mut running = tracing(helper, &scratch, &[value]).start()?;
    let name = format!("log-{}.txt", running.pid());
    ensure!(running.terminate()?.success());
    ensure!(
        scratch.names()? == [name.as_str()],
        "{:?}",
        scratch.names()?
    );
    has_fired(&fs::read_to_string(scratch.path(&name))?, &[LISTEN])
}

fn full(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = tracing(helper, &scratch, &["*,file=/dev/full"]).start()?;
    running.client()?;
    ensure!(running.terminate()?.success());
    Ok(())
}

/// Waits for these events in a file: a helper may serve somebody before it writes about it.
fn comes_to_have(path: &Path, events: &[&str]) -> Result<()> {
    wait_until(&format!("{events:?} in the file"), || {
        Ok(fired(&text_of(path)) == events)
    })
}

/// Opened before the privileges go, and written to after that.
fn for_root(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::set_permissions(scratch.folder(), fs::Permissions::from_mode(0o700))?;
    let launch = tracing(helper, &scratch, &["*,file=log"]).prelude("umask 077;");
    let running = launch.args(["-u", "65534", "-g", "65534"]).start()?;
    ensure!(running.status_line("Uid")?.starts_with("65534\t"));
    comes_to_have(&scratch.path("log"), &SHARED)
}

/// A relative name is below the folder of the start, and the child goes on writing.
fn daemon(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = tracing(helper, &scratch, &["*,file=log"]);
    let launch = launch.arg("-d").arg("-f").arg(scratch.path("pid"));
    let finished = launch.finish()?;
    let _daemon = Daemon::of(&scratch.path("pid"))?;
    finished.succeeded()?;
    let log = scratch.path("log");
    comes_to_have(&log, &[LISTEN, LISTEN_COMPLETE])?;
    Client::connect(&scratch.socket())?.handshake()?;
    comes_to_have(&log, &SHARED)
}

/// The parent's stderr has what happened before the child went into the background.
fn daemon_without_file(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = tracing(helper, &scratch, &["*socket_*"]);
    let launch = launch.arg("-d").arg("-f").arg(scratch.path("pid"));
    let finished = launch.finish()?;
    let _daemon = Daemon::of(&scratch.path("pid"))?;
    ensure!(finished.status.success(), "{finished:?}");
    has_fired(&finished.stderr, &[LISTEN, LISTEN_COMPLETE])?;
    Client::connect(&scratch.socket())?.handshake()
}
