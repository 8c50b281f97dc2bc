//! How many events there must be, and whether a trace accounts for each of them.

use std::collections::BTreeMap;

use crate::helper::{IN, Request};
use crate::reader::Item;

/// Events, but for those of threads, whose number is a matter of chance.
pub(crate) const ALL_BUT_THREADS: [&str; 3] = ["-T*", "-T", "-pr_helper_thread_*"];

/// As [`ALL_BUT_THREADS`], to a binary file with this name.
pub(crate) fn to_binary_file(file: &str) -> [String; 5] {
    let [all, option, but] = ALL_BUT_THREADS.map(str::to_owned);
    // The last value says where the trace goes.
    let last = format!("{but},file={file}");
    let backend = "--trace-backend".to_owned();
    [backend, "simple".into(), all, option, last]
}

/// The events of a helper that is started, serves so many connections, and is stopped with SIGTERM; with
/// the requests of these loads, each so many clients with so many requests.
pub(crate) fn expected(connections: u64, loads: &[(u64, u64)]) -> BTreeMap<&'static str, u64> {
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
            add(around(&request), *clients);
            add(within(&request), *clients);
        }
    }
    events
}

/// What begins and what ends a request.
fn around(request: &Request) -> &'static [&'static str] {
    if request.opcode == IN {
        &["pr_helper_in_begin", "pr_helper_in_end"]
    } else {
        &["pr_helper_out_begin", "pr_helper_out_end"]
    }
}

fn within(request: &Request) -> &'static [&'static str] {
    if request.is_read_only {
        &["pr_helper_request_refused"]
    } else {
        &["pr_helper_sg_begin", "pr_helper_sg_end"]
    }
}

/// How many records a trace has, and how many it says are missing.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) written: BTreeMap<String, u64>,
    pub(crate) dropped: u64,
}

impl Account {
    pub(crate) fn of(items: &[Item]) -> Self {
        let mut account = Self::default();
        for item in items {
            match item {
                Item::Event(record) => account.add(&record.name),
                Item::Dropped { count, .. } => account.dropped += count,
            }
        }
        account
    }

    pub(crate) fn add(&mut self, name: &str) {
        *self.written.entry(name.to_owned()).or_default() += 1;
    }

    /// Checks that everything that had to happen is there or is missing, to the last event, and nothing
    /// else.
    pub(crate) fn settle(&self, expected: &BTreeMap<&'static str, u64>) {
        for (name, count) in &self.written {
            let most = expected.get(name.as_str()).copied().unwrap_or(0);
            assert!(*count <= most, "{count} of {name}, not {most}");
        }
        let written: u64 = self.written.values().sum();
        let total: u64 = expected.values().sum();
        println!("{written} events written, {} dropped", self.dropped);
        assert_eq!(written + self.dropped, total, "{self:?} of {expected:?}");
    }
}
