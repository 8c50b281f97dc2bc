//! The trace option: what the cases about it share.
//!
//! Both helpers have events of their own. The cases look at the four that are in both, and pass over
//! every other line.

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
use crate::process::Launch;
use crate::scratch::Scratch;

const LISTEN: &str = "socket_listen";
const LISTEN_COMPLETE: &str = "qio_channel_socket_listen_complete";
const ACCEPT: &str = "qio_channel_socket_accept";
const ACCEPT_COMPLETE: &str = "qio_channel_socket_accept_complete";

/// The events that both helpers have, in the order in which a start and a client bring them about.
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

/// A start with an option `-T` for each value. `{}` in a value is the case's folder.
fn tracing<'a>(helper: &'a Helper, scratch: &'a Scratch, values: &[impl AsRef<str>]) -> Launch<'a> {
    let folder = scratch.folder().display().to_string();
    let mut launch = helper.serving(scratch);
    for value in values {
        let value = value.as_ref().replace("{}", &folder);
        launch = launch.arg("-T").arg(value);
    }
    launch
}

/// What a helper writes to stderr that is started with these values, serves a client, and ends.
fn stderr_of(helper: &Helper, scratch: &Scratch, values: &[impl AsRef<str>]) -> Result<String> {
    let mut running = tracing(helper, scratch, values).start()?;
    ensure!(running.terminate()?.success());
    running.stderr()
}

/// The shared events of which a log has lines.
fn fired(log: &str) -> Vec<&'static str> {
    let has = |event: &&str| !lines_of(log, event).is_empty();
    SHARED.into_iter().filter(has).collect()
}

/// The lines of one event in a log.
fn lines_of<'a>(log: &'a str, event: &str) -> Vec<&'a str> {
    log.lines()
        .filter(|line| line.split(' ').next() == Some(event))
        .collect()
}

/// Checks that a log has lines of these shared events and of no other.
fn has_fired(log: &str, expected: &[&str]) -> Result<()> {
    let fired = fired(log);
    ensure!(fired == expected, "{fired:?}, not {expected:?}: {log}");
    Ok(())
}

/// Checks that there is one warning for each name of no event, in this order, and no other.
///
/// Each comes with the place that stands between the program's name and the warning.
fn has_warned(stderr: &str, expected: &[(String, &str)]) -> Result<()> {
    let warnings: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("warning: "))
        .collect();
    ensure!(
        warnings.len() == expected.len(),
        "not {expected:?}: {warnings:?}"
    );
    for (line, (place, name)) in warnings.iter().zip(expected) {
        let (program, rest) = line.split_once(':').unwrap_or_default();
        ensure!(program.ends_with("qemu-pr-helper"), "{line}");
        ensure!(rest.starts_with(&format!("{place} warning: ")), "{line}");
        ensure!(rest.contains(&format!("'{name}'")), "no '{name}': {line}");
    }
    Ok(())
}

/// The text of a file that may not be there yet.
fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
