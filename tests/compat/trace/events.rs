//! The events that both helpers have: when each of them happens, and what its line says.

use anyhow::{Context, Result, ensure};

use super::{
    ACCEPT, ACCEPT_COMPLETE, LISTEN, LISTEN_COMPLETE, SHARED, has_fired, lines_of, stderr_of,
    tracing,
};
use crate::activation::{RIGHT, activated};
use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::{Running, wait_until};
use crate::scratch::Scratch;

/// The lines of the events about channels, without the values, which mean something inside a helper.
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
        Case::new("events_come_at_start_and_with_each_client", moments),
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

fn moments(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = tracing(helper, &scratch, &["*socket_*"]).spawn()?;
    // Until somebody connects there is only the start.
    comes_to_count(&running, [1, 1, 0, 0])?;
    let _first = running.client()?;
    comes_to_count(&running, [1, 1, 1, 1])?;
    let _second = running.client()?;
    comes_to_count(&running, [1, 1, 2, 2])?;

    let log = running.stderr()?;
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

/// Waits for so many lines of each shared event: a helper may serve somebody before it writes about it.
fn comes_to_count(running: &Running, expected: [usize; 4]) -> Result<()> {
    wait_until(&format!("{expected:?} lines"), || {
        let log = running.stderr()?;
        let counts = SHARED.map(|event| lines_of(&log, event).len());
        let beyond = counts
            .iter()
            .zip(expected)
            .any(|(count, most)| *count > most);
        ensure!(!beyond, "{counts:?}, not {expected:?}: {log}");
        Ok(counts == expected)
    })
}

/// It listens already.
fn activation(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = activated(helper, &scratch, RIGHT)?;
    let mut running = launch.args(["-T", "*socket_*"]).start()?;
    ensure!(running.terminate()?.success());
    has_fired(&running.stderr()?, &[ACCEPT, ACCEPT_COMPLETE])
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

/// What there is on stderr if one event is enabled: its line, once.
fn only_line(helper: &Helper, event: &str) -> Result<String> {
    let scratch = Scratch::new()?;
    let stderr = stderr_of(helper, &scratch, &[event])?;
    ensure!(stderr.lines().count() == 1, "{stderr}");
    ensure!(stderr.ends_with('\n'), "{stderr}");
    Ok(stderr.trim_end_matches('\n').to_owned())
}
