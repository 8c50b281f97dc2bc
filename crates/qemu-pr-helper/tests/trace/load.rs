//! Many requests of many clients at once: each event is in the file, in its place, or counted as missing.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::account::{Account, expected, to_binary_file};
use crate::contents;
use crate::definitions::Definitions;
use crate::helper::{Client, Devices, Launch, Request, load, wait_for};
use crate::reader::{self, Item};

const CLIENTS: u64 = 16;
const REQUESTS: u64 = 100_000 / CLIENTS;

#[test]
fn every_event_of_many_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = to_binary_file("trace");
    let launch = Launch::new(folder.path()).args(arguments.iter().map(String::as_str));
    let mut running = launch.start();
    let first = load(&running, CLIENTS, REQUESTS);
    assert!(running.terminate().success());

    let bytes = fs::read(folder.path().join("trace")).unwrap();
    let items = reader::read(&bytes, &Definitions::of_helper()).unwrap();
    let account = Account::of(&items);
    account.settle(&expected(running.connected(), &[(CLIENTS, REQUESTS)]));
    contents::check(&items, running.pid(), first, CLIENTS, REQUESTS);
    // What is missing was said, and nothing else was.
    let said = running.said();
    assert_eq!(account.dropped > 0, !said.is_empty(), "{said}");
    let is_expected = |line: &str| line.contains("warning: trace dropped ");
    assert!(said.lines().all(is_expected), "{said}");
}

#[test]
fn whatever_was_answered_before_the_end_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = to_binary_file("trace");
    let launch = Launch::new(folder.path()).args(arguments.iter().map(String::as_str));
    let mut running = launch.start();
    let clients: Vec<_> = (0..CLIENTS).map(|_| running.client()).collect();
    let total = AtomicU64::new(0);
    let answered: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(|| ask_to_the_end(client, &total)))
            .collect();
        wait_for("many answers", || {
            (total.load(Ordering::SeqCst) > 2000).then_some(())
        });
        assert!(running.terminate().success());
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });

    let bytes = fs::read(folder.path().join("trace")).unwrap();
    let items = reader::read(&bytes, &Definitions::of_helper()).unwrap();
    let dropped = Account::of(&items).dropped;
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
        // The last answer may have gone to nobody.
        assert!(ends <= answered + 1, "{ends}, {answered}");
        assert!(ends + dropped >= answered, "{ends}, {dropped}, {answered}");
    }
    let Some(Item::Event(last)) = items.last() else {
        panic!("{:?}", items.last());
    };
    assert_eq!(last.name, "pr_helper_stopped");
}

/// Asks until there is no answer any more. Gives the client's number, and how many there were.
fn ask_to_the_end(mut client: Client, total: &AtomicU64) -> (u64, u64) {
    let devices = Devices::open();
    let mut answered = 0;
    while client
        .try_ask(&Request::nth(client.number, answered), &devices)
        .is_ok()
    {
        answered += 1;
        total.fetch_add(1, Ordering::SeqCst);
    }
    (client.number, answered)
}
