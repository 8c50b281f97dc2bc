// SPDX-License-Identifier: MIT OR Apache-2.0

//! The events that both helpers have: their occurrence and their lines.

use anyhow::{Context, Result, ensure};

use super::{
    ACCEPT, ACCEPT_COMPLETE, LISTEN, LISTEN_COMPLETE, SHARED, expect_events, lines_of,
    traced_command, traced_stderr,
};
use crate::activation::{ACTIVATED, activated_command};
use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::{Running, wait_until};
use crate::scratch::Scratch;

/// Lines of the events about channels, without the values, which are specific to a helper.
const CHANNEL: [(&str, &str); 3] = [
    (
        LISTEN_COMPLETE,
        "qio_channel_socket_listen_complete Socket listen complete ioc= fd=",
    ),
    (ACCEPT, "qio_channel_socket_accept Socket accept start ioc="),
    (
        ACCEPT_COMPLETE,
        "qio_channel_socket_accept_complete Socket accept complete ioc= cioc= fd=",
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("events_occur_at_start_and_for_each_client", occurrence),
        Case::new("events_of_an_activated_socket", activation),
        Case::new("line_of_socket_listen", listen_line).row(Row::Backlog),
    ];
    for (event, shape) in CHANNEL {
        cases.push(Case::new(format!("line_of_{event}"), move |helper| {
            channel_line(helper, event, shape)
        }));
    }
    cases
}

fn occurrence(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = traced_command(helper, &scratch, &["*socket_*"]).spawn()?;
    // Without a client, there are only the events of the start.
    wait_for_counts(&running, [1, 1, 0, 0])?;
    let _first = running.client()?;
    wait_for_counts(&running, [1, 1, 1, 1])?;
    let _second = running.client()?;
    wait_for_counts(&running, [1, 1, 2, 2])?;

    let log = running.stderr();
    let shared: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            SHARED
                .into_iter()
                .find(|name| line.split(' ').next() == Some(*name))
        })
        .collect();
    let client = [ACCEPT, ACCEPT_COMPLETE];
    let expected = [&[LISTEN, LISTEN_COMPLETE][..], &client, &client].concat();
    ensure!(shared == expected, "{shared:?}");
    Ok(())
}

/// Waits for these numbers of lines of the shared events. A helper can serve a client before it
/// writes the events.
fn wait_for_counts(running: &Running, expected: [usize; 4]) -> Result<()> {
    wait_until(&format!("{expected:?} lines"), || {
        let log = running.stderr();
        let counts = SHARED.map(|event| lines_of(&log, event).len());
        let exceeds = counts.iter().zip(expected).any(|(count, max)| *count > max);
        ensure!(!exceeds, "{counts:?}, not {expected:?}: {log}");
        Ok(counts == expected)
    })
}

/// An inherited socket is already listening.
fn activation(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = activated_command(helper, &scratch, ACTIVATED)?;
    let mut running = command.args(["-T", "*socket_*"]).start()?;
    ensure!(running.terminate()?.success());
    expect_events(&running.stderr(), &[ACCEPT, ACCEPT_COMPLETE])
}

fn listen_line(helper: &Helper) -> Result<()> {
    let line = only_line(helper, LISTEN)?;
    let backlog = line
        .strip_prefix("socket_listen backlog: ")
        .with_context(|| line.clone())?;
    let backlog: u32 = backlog.parse().with_context(|| line.clone())?;
    ensure!((backlog > 1) == helper.differs(Row::Backlog), "{line}");
    Ok(())
}

fn channel_line(helper: &Helper, event: &str, shape: &str) -> Result<()> {
    let line = only_line(helper, event)?;
    let mut words = Vec::new();
    for word in line.split(' ') {
        let Some((key, value)) = word.split_once('=') else {
            words.push(word.to_owned());
            continue;
        };
        ensure!(!value.is_empty(), "{line}");
        ensure!(key != "fd" || value.parse::<u32>().is_ok(), "{line}");
        words.push(format!("{key}="));
    }
    ensure!(words.join(" ") == shape, "{line}");
    Ok(())
}

/// Returns the only line on stderr with one enabled event.
fn only_line(helper: &Helper, event: &str) -> Result<String> {
    let scratch = Scratch::new()?;
    let stderr = traced_stderr(helper, &scratch, &[event])?;
    ensure!(stderr.lines().count() == 1, "{stderr}");
    ensure!(stderr.ends_with('\n'), "{stderr}");
    Ok(stderr.trim_end_matches('\n').to_owned())
}
