// SPDX-License-Identifier: MIT OR Apache-2.0

//! Records of each client: the content and the order of its events.

use std::collections::BTreeMap;

use rustix::process::geteuid;

use crate::binary_reader::{Item, Record};
use crate::helper::{IN, Request};

/// Name of `/dev/null` in events.
const DEVICE: &str = "char 1:3";
/// Status of all commands: CHECK CONDITION.
const STATUS: u64 = 2;

/// Expected event, without the arguments that vary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExpectedEvent {
    name: &'static str,
    numbers: Vec<(&'static str, u64)>,
    texts: Vec<(&'static str, &'static str)>,
}

impl ExpectedEvent {
    fn matches(&self, record: &Record) -> bool {
        let has_number = |(name, number): &(&str, u64)| record.number(name) == *number;
        let has_text = |(name, text): &(&str, &str)| record.text(name) == *text;
        self.name == record.name
            && self.numbers.iter().all(has_number)
            && self.texts.iter().all(has_text)
    }
}

/// Checks that the records of each client have the expected content and order. If the trace has
/// drop markers, records can be missing.
pub(crate) fn check(items: &[Item], process: u32, first: u64, clients: u64, requests: u64) {
    let mut by_client: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    let mut is_complete = true;
    for item in items {
        match item {
            Item::Dropped {
                process: writer, ..
            } => {
                assert_eq!(*writer, process);
                is_complete = false;
            }
            Item::Event(record) => {
                assert_eq!(record.process, process);
                check_sg(record);
                if let Some(client) = client(record) {
                    by_client.entry(client).or_default().push(record);
                }
            }
        }
    }
    for number in first..first + clients {
        let records = by_client.remove(&number).unwrap_or_default();
        check_client(&records, number, requests, is_complete);
    }
    // Client 1 only waited for the helper to serve.
    assert!(by_client.keys().all(|number| *number == 1), "{by_client:?}");
}

fn client(record: &Record) -> Option<u64> {
    let name = match record.name.as_str() {
        "qio_channel_socket_accept_complete" => "cioc",
        _ => "client",
    };
    record.values.get(name).map(|_| record.number(name))
}

/// Checks an event of `SG_IO`, which does not name the client.
fn check_sg(record: &Record) {
    match record.name.as_str() {
        "pr_helper_sg_begin" => {
            assert!([0x5e, 0x5f].contains(&record.number("opcode")));
            assert!([0, 2].contains(&record.number("action")));
            assert_eq!(record.number("timeout"), 30_000);
        }
        "pr_helper_sg_end" => {
            // ENOTTY.
            assert_eq!(record.number("error"), 25);
            for name in ["status", "host_status", "driver_status", "residual"] {
                assert_eq!(record.number(name), 0, "{name}");
            }
        }
        _ => {}
    }
}

fn check_client(records: &[&Record], number: u64, requests: u64, is_complete: bool) {
    let times: Vec<_> = records.iter().map(|record| record.nanoseconds).collect();
    assert!(times.is_sorted(), "client {number}");
    let expected = client_events(number, requests);
    if is_complete {
        let text = "a new event belongs in client_events()";
        assert_eq!(records.len(), expected.len(), "client {number}: {text}");
    }
    let mut expected = expected.iter();
    for record in records {
        // If records are missing, skip to the next expected event that matches. Keys and lengths
        // tell requests apart.
        let found = match is_complete {
            true => expected.next().is_some_and(|event| event.matches(record)),
            false => expected.any(|event| event.matches(record)),
        };
        assert!(found, "unexpected: {record:?}");
    }
}

/// Returns the expected events of a client.
fn client_events(number: u64, requests: u64) -> Vec<ExpectedEvent> {
    let pid = u64::from(std::process::id());
    let uid = u64::from(geteuid().as_raw());
    let client = ("client", number);
    let identity = vec![client, ("pid", pid), ("uid", uid)];
    let event = |name, numbers: Vec<_>, texts: Vec<_>| ExpectedEvent {
        name,
        numbers,
        texts,
    };
    let mut events = vec![
        event(
            "qio_channel_socket_accept_complete",
            vec![("cioc", number)],
            vec![],
        ),
        event("pr_helper_client_connected", identity.clone(), vec![]),
        event(
            "pr_helper_client_negotiated",
            vec![client, ("features", 0)],
            vec![],
        ),
    ];
    let process = [client, ("pid", pid)];
    events.extend(
        (0..requests).flat_map(|index| request_events(&Request::nth(number, index), &process)),
    );
    let reason = ("reason", "closed by the client");
    events.push(event(
        "pr_helper_client_disconnected",
        identity,
        vec![reason],
    ));
    events
}

/// Returns the expected events of a request.
fn request_events(request: &Request, process: &[(&'static str, u64)]) -> Vec<ExpectedEvent> {
    let client = *process.first().unwrap();
    let length = ("length", u64::from(request.length));
    let [key, sa_key] = request.keys;
    let action = match (request.opcode, request.action) {
        (IN, 0) => "READ KEYS",
        (IN, _) => "REPORT CAPABILITIES",
        (_, 0) => "REGISTER",
        (_, _) => "RESERVE",
    };
    let texts = vec![("device", DEVICE), ("action", action)];
    let out = [
        ("scope_type", u64::from(request.scope_type)),
        ("key", key),
        ("sa_key", sa_key),
    ];
    let out = if request.opcode == IN { &[][..] } else { &out };
    let (begin, end) = match request.opcode {
        IN => ("pr_helper_in_begin", "pr_helper_in_end"),
        _ => ("pr_helper_out_begin", "pr_helper_out_end"),
    };
    // ABORTED COMMAND, I/O PROCESS TERMINATED; or ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
    let sense = match request.is_read_only {
        false => 0x0b_0006,
        true => 0x05_2000,
    };
    let mut answer = [process, out, &[("status", STATUS), ("sense", sense)]].concat();
    if request.opcode == IN {
        // The answer has no data.
        answer.push(("length", 0));
    }
    let event = |name, numbers, texts| ExpectedEvent {
        name,
        numbers,
        texts,
    };
    let mut events = vec![event(
        begin,
        [&[client, length], out].concat(),
        texts.clone(),
    )];
    if request.is_read_only {
        let reason = vec![("device", DEVICE), ("reason", "open read-only")];
        events.push(event("pr_helper_request_refused", vec![client], reason));
    }
    events.push(event(end, answer, texts));
    events
}
