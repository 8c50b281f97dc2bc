// SPDX-License-Identifier: MIT OR Apache-2.0

//! Number of events in a trace: written ones and dropped ones must add up to the expected number.

use std::collections::BTreeMap;

use crate::binary_reader::Item;
use crate::helper::{IN, Request};

/// Options for all events except those about threads, because their number varies.
pub(crate) const ALL_BUT_THREAD_EVENTS: [&str; 3] = ["-T*", "-T", "-pr_helper_thread_*"];

/// Returns [`ALL_BUT_THREAD_EVENTS`] with options for a binary trace in `file`.
pub(crate) fn binary_trace_args(file: &str) -> [String; 5] {
    let [all, option, except_threads] = ALL_BUT_THREAD_EVENTS.map(str::to_owned);
    // The last value of `-T` selects the file.
    let last = format!("{except_threads},file={file}");
    let backend = "--trace-backend".to_owned();
    [backend, "simple".into(), all, option, last]
}

/// Returns the number of events, by name, of a helper that starts, serves `connections` and is
/// stopped with SIGTERM. Each of the `loads` is a number of clients and the number of requests per
/// client.
pub(crate) fn expected_events(
    connections: u64,
    loads: &[(u64, u64)],
) -> BTreeMap<&'static str, u64> {
    let mut events = BTreeMap::new();
    let mut add = |names: &[&'static str], count| {
        for name in names {
            *events.entry(*name).or_default() += count;
        }
    };
    add(
        &[
            "socket_listen",
            "qio_channel_socket_listen_complete",
            "pr_helper_privileges_dropped",
            "pr_helper_stopping",
            "pr_helper_stopped",
        ],
        1,
    );
    add(
        &[
            "qio_channel_socket_accept",
            "qio_channel_socket_accept_complete",
            "pr_helper_client_connected",
            "pr_helper_client_negotiated",
            "pr_helper_client_disconnected",
        ],
        connections,
    );
    for (clients, requests) in loads {
        for index in 0..*requests {
            let request = Request::nth(0, index);
            add(outer_events(&request), *clients);
            add(inner_events(&request), *clients);
        }
    }
    events
}

/// Returns the events at the beginning and at the end of a request.
fn outer_events(request: &Request) -> &'static [&'static str] {
    if request.opcode == IN {
        &["pr_helper_in_begin", "pr_helper_in_end"]
    } else {
        &["pr_helper_out_begin", "pr_helper_out_end"]
    }
}

/// Returns the events between those of [`outer_events`].
fn inner_events(request: &Request) -> &'static [&'static str] {
    if request.is_read_only {
        &["pr_helper_request_refused"]
    } else {
        &["pr_helper_sg_begin", "pr_helper_sg_end"]
    }
}

/// Numbers of events in a trace.
#[derive(Debug, Default)]
pub(crate) struct EventCounts {
    /// Number of records by event name.
    pub(crate) written: BTreeMap<String, u64>,
    /// Number of missing events according to the drop markers.
    pub(crate) dropped: u64,
}

impl EventCounts {
    pub(crate) fn new(items: &[Item]) -> Self {
        let mut counts = Self::default();
        for item in items {
            match item {
                Item::Event(record) => counts.add(&record.name),
                Item::Dropped { count, .. } => counts.dropped += count,
            }
        }
        counts
    }

    pub(crate) fn add(&mut self, name: &str) {
        *self.written.entry(name.to_owned()).or_default() += 1;
    }

    /// Checks that each expected event was written or dropped, and that there are no other events.
    pub(crate) fn assert_complete(&self, expected: &BTreeMap<&'static str, u64>) {
        for (name, count) in &self.written {
            let limit = expected.get(name.as_str()).copied().unwrap_or(0);
            assert!(
                *count <= limit,
                "{count} of {name}, expected {limit}: a new event belongs in expected_events()"
            );
        }
        let written: u64 = self.written.values().sum();
        let total: u64 = expected.values().sum();
        println!("{written} events written, {} dropped", self.dropped);
        assert_eq!(written + self.dropped, total, "{self:?} of {expected:?}");
    }
}
