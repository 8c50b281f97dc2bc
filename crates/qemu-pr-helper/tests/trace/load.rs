// SPDX-License-Identifier: MIT OR Apache-2.0

//! High load: each event is in the trace, in its place, or counted as dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pr_testkit::eventually;

use crate::binary_reader::{Item, read_file};
use crate::client_records;
use crate::event_counts::{EventCounts, binary_trace_args, expected_events};
use crate::helper::{Client, Devices, Helper, Request, builder, run_load};

const CLIENTS: u64 = 16;
const REQUESTS: u64 = 100_000 / CLIENTS;

#[test]
fn load_events_are_written_or_counted() {
    let dir = tempfile::tempdir().unwrap();
    let command = builder(dir.path()).args(binary_trace_args("trace"));
    let mut helper = Helper::start(command);
    let first = run_load(&helper, CLIENTS, REQUESTS);
    assert!(helper.terminate().unwrap().success());

    let items = read_file(&dir.path().join("trace"));
    let counts = EventCounts::new(&items);
    counts.assert_complete(&expected_events(helper.connected(), &[(CLIENTS, REQUESTS)]));
    client_records::check(&items, helper.id(), first, CLIENTS, REQUESTS);
    // Only dropped events cause warnings.
    let stderr = helper.log();
    assert_eq!(counts.dropped > 0, !stderr.is_empty(), "{stderr}");
    let is_expected = |line: &str| line.contains("warning: trace dropped ");
    assert!(stderr.lines().all(is_expected), "{stderr}");
}

#[test]
fn answered_requests_are_in_the_trace_at_exit() {
    let dir = tempfile::tempdir().unwrap();
    let command = builder(dir.path()).args(binary_trace_args("trace"));
    let mut helper = Helper::start(command);
    let clients: Vec<_> = (0..CLIENTS).map(|_| helper.connect()).collect();
    let total = AtomicU64::new(0);
    let answered: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(|| execute_until_closed(client, &total)))
            .collect();
        eventually("many answers", || {
            (total.load(Ordering::SeqCst) > 2000).then_some(())
        });
        assert!(helper.terminate().unwrap().success());
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });

    let items = read_file(&dir.path().join("trace"));
    let dropped = EventCounts::new(&items).dropped;
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    for item in &items {
        if let Item::Event(record) = item
            && (record.name.ends_with("_in_end") || record.name.ends_with("_out_end"))
        {
            *ends.entry(record.number("client")).or_default() += 1;
        }
    }
    for (client, answered) in answered {
        let ends = ends.get(&client).copied().unwrap_or(0);
        // The client may not have received the last answer.
        assert!(ends <= answered + 1, "{ends}, {answered}");
        assert!(ends + dropped >= answered, "{ends}, {dropped}, {answered}");
    }
    let Some(Item::Event(last)) = items.last() else {
        panic!("{:?}", items.last());
    };
    assert_eq!(last.name, "pr_helper_stopped");
}

/// Sends requests until the helper closes the connection. Returns the number of the client and the
/// number of its answers.
fn execute_until_closed(mut client: Client, total: &AtomicU64) -> (u64, u64) {
    let devices = Devices::open();
    let mut answered = 0;
    while client
        .try_execute(&Request::nth(client.number, answered), &devices)
        .is_ok()
    {
        answered += 1;
        total.fetch_add(1, Ordering::SeqCst);
    }
    (client.number, answered)
}
