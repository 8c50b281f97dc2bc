//! What records say of each client: who it is, what it asked for and in which order, and what it was told.

use std::collections::BTreeMap;

use rustix::process::geteuid;

use crate::helper::{IN, Request};
use crate::reader::{Item, Record};

/// What `/dev/null` is called.
const DEVICE: &str = "char 1:3";
/// CHECK CONDITION.
const STATUS: u64 = 2;

/// One event of a request, as far as it is not chance.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    name: &'static str,
    numbers: Vec<(&'static str, u64)>,
    texts: Vec<(&'static str, &'static str)>,
}

impl Event {
    fn is(&self, record: &Record) -> bool {
        let has_number = |(name, number): &(&str, u64)| record.number(name) == *number;
        let has_text = |(name, text): &(&str, &str)| record.text(name) == *text;
        self.name == record.name
            && self.numbers.iter().all(has_number)
            && self.texts.iter().all(has_text)
    }
}

/// Checks all records: everything about each client is what must have happened, in the order in which it must
/// have. Where some are missing, what is there still is.
pub(crate) fn check(items: &[Item], process: u32, first: u64, clients: u64, requests: u64) {
    let mut of_clients: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    let mut is_complete = true;
    for item in items {
        match item {
            Item::Dropped { process: by, .. } => {
                assert_eq!(*by, process);
                is_complete = false;
            }
            Item::Event(record) => {
                assert_eq!(record.process, process);
                check_kernel(record);
                if let Some(client) = client(record) {
                    of_clients.entry(client).or_default().push(record);
                }
            }
        }
    }
    for number in first..first + clients {
        let records = of_clients.remove(&number).unwrap_or_default();
        check_client(&records, number, requests, is_complete);
    }
    // What is left is of the one that came to see whether the helper serves.
    assert!(
        of_clients.keys().all(|number| *number == 1),
        "{of_clients:?}"
    );
}

fn client(record: &Record) -> Option<u64> {
    let name = match record.name.as_str() {
        "qio_channel_socket_accept_complete" => "cioc",
        _ => "client",
    };
    record.values.get(name).map(|_| record.number(name))
}

/// Events that have no client.
fn check_kernel(record: &Record) {
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
    let expected = events(number, requests);
    if is_complete {
        assert_eq!(records.len(), expected.len(), "client {number}");
    }
    let mut expected = expected.iter();
    for record in records {
        // With gaps, the next one that it can be. Keys and lengths tell one request from the next.
        let found = match is_complete {
            true => expected.next().is_some_and(|event| event.is(record)),
            false => expected.any(|event| event.is(record)),
        };
        assert!(found, "out of place, or not what happened: {record:?}");
    }
}

/// Everything that has to happen with a client, in order.
fn events(number: u64, requests: u64) -> Vec<Event> {
    let pid = u64::from(std::process::id());
    let uid = u64::from(geteuid().as_raw());
    let client = ("client", number);
    let who = vec![client, ("pid", pid), ("uid", uid)];
    let event = |name, numbers: Vec<_>, texts: Vec<_>| Event {
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
        event("pr_helper_client_connected", who.clone(), vec![]),
        event(
            "pr_helper_client_negotiated",
            vec![client, ("features", 0)],
            vec![],
        ),
    ];
    let process = [client, ("pid", pid)];
    events
        .extend((0..requests).flat_map(|index| of_request(&Request::nth(number, index), &process)));
    let reason = ("reason", "closed by the client");
    events.push(event("pr_helper_client_disconnected", who, vec![reason]));
    events
}

/// What happens with a request.
fn of_request(request: &Request, who: &[(&'static str, u64)]) -> Vec<Event> {
    let client = *who.first().unwrap();
    let length = ("length", u64::from(request.length));
    let [key, sa_key] = request.keys;
    let action = match (request.opcode, request.action) {
        (IN, 0) => "READ KEYS",
        (IN, _) => "REPORT CAPABILITIES",
        (_, 0) => "REGISTER",
        (_, _) => "RESERVE",
    };
    let what = vec![("device", DEVICE), ("action", action)];
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
    let mut answer = [who, out, &[("status", STATUS), ("sense", sense)]].concat();
    if request.opcode == IN {
        // No data.
        answer.push(("length", 0));
    }
    let event = |name, numbers, texts| Event {
        name,
        numbers,
        texts,
    };
    let mut events = vec![event(
        begin,
        [&[client, length], out].concat(),
        what.clone(),
    )];
    if request.is_read_only {
        let why = vec![("device", DEVICE), ("reason", "open read-only")];
        events.push(event("pr_helper_request_refused", vec![client], why));
    }
    events.push(event(end, answer, what));
    events
}
