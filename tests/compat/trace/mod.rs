// SPDX-License-Identifier: MIT OR Apache-2.0

//! The option `--trace`.
//!
//! The helpers also have events of their own. The cases check the four events that both have and
//! ignore all other lines.

mod destination;
mod events;
mod events_file;
mod names;
mod options;
mod pipe;

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::helper::Helper;
use crate::process::HelperCommand;
use crate::scratch::Scratch;

const LISTEN: &str = "socket_listen";
const LISTEN_COMPLETE: &str = "qio_channel_socket_listen_complete";
const ACCEPT: &str = "qio_channel_socket_accept";
const ACCEPT_COMPLETE: &str = "qio_channel_socket_accept_complete";

/// The events that both helpers have, in their order at the start and for a client.
const SHARED: [&str; 4] = [LISTEN, LISTEN_COMPLETE, ACCEPT, ACCEPT_COMPLETE];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = options::cases();
    cases.extend(names::cases());
    cases.extend(events_file::cases());
    cases.extend(destination::cases());
    cases.extend(pipe::cases());
    cases.extend(events::cases());
    cases
}

/// Prepares a start with an option `-T` for each value. `{}` in a value is the case's directory.
fn traced_command<'a>(
    helper: &'a Helper,
    scratch: &'a Scratch,
    values: &[impl AsRef<str>],
) -> HelperCommand {
    let dir = scratch.dir().display().to_string();
    let mut command = helper.serving_command(scratch);
    for value in values {
        let value = value.as_ref().replace("{}", &dir);
        command = command.arg("-T").arg(value);
    }
    command
}

/// Starts a helper with these values, serves a client, and stops it; returns its stderr.
fn traced_stderr(helper: &Helper, scratch: &Scratch, values: &[impl AsRef<str>]) -> Result<String> {
    let mut running = traced_command(helper, scratch, values).start()?;
    ensure!(running.terminate()?.success());
    Ok(running.stderr())
}

/// Returns the shared events that a log contains.
fn logged_events(log: &str) -> Vec<&'static str> {
    let has = |event: &&str| !lines_of(log, event).is_empty();
    SHARED.into_iter().filter(has).collect()
}

/// Returns the lines of an event in a log.
fn lines_of<'a>(log: &'a str, event: &str) -> Vec<&'a str> {
    log.lines()
        .filter(|line| line.split(' ').next() == Some(event))
        .collect()
}

/// Checks that a log contains these shared events and no other ones.
fn expect_events(log: &str, expected: &[&str]) -> Result<()> {
    let logged = logged_events(log);
    ensure!(logged == expected, "{logged:?}, not {expected:?}: {log}");
    Ok(())
}

/// Checks that stderr has one warning for each unknown name, in this order, and no other warnings.
///
/// Each name comes with the location between the program's name and the warning.
fn expect_warnings(stderr: &str, expected: &[(String, &str)]) -> Result<()> {
    let warnings: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("warning: "))
        .collect();
    ensure!(
        warnings.len() == expected.len(),
        "not {expected:?}: {warnings:?}"
    );
    for (line, (location, name)) in warnings.iter().zip(expected) {
        let (program, rest) = line.split_once(':').unwrap_or_default();
        ensure!(program.ends_with("qemu-pr-helper"), "{line}");
        ensure!(rest.starts_with(&format!("{location} warning: ")), "{line}");
        ensure!(rest.contains(&format!("'{name}'")), "no '{name}': {line}");
    }
    Ok(())
}

/// Returns the text of a file; empty if it does not exist yet.
fn read_or_empty(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
