// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the server's threads in many schedules.
//!
//! The server and its connections are the real ones. Locks and threads are replaced by those of
//! [shuttle](https://docs.rs/shuttle) (`sync.rs`), which runs one thread at a time in an order that
//! its scheduler chooses, and the epoll set by `epoll.rs`. A schedule fails if all threads wait, or
//! if it does not end. Time is not modeled: a timeout can expire at any moment.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]
#![expect(clippy::indexing_slicing, reason = "a failure fails the test")]

mod client;
mod device;
pub(super) mod sync;
mod thread_pool;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use scsi_pr::Status;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::thread::{JoinHandle, yield_now};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::sync::atomic::Ordering;
use super::sync::lock;
use client::Harness;
use device::{HANGING, READ_KEYS};
use sync::{SpawnFailure, fail_spawn, thread_count};

/// Number of schedules that each scheduler tries for each scenario, unless `PR_MODEL_SCHEDULES` is
/// set.
const SCHEDULES: usize = 200;

/// Number of priority changes in a schedule of the PCT scheduler.
const PCT_DEPTH: usize = 4;

/// Timeout that is longer than any test.
const LONG_TIMEOUT: Duration = Duration::from_secs(3600);

/// Maximum number of turns in which the threads have to become quiescent.
const MAX_TURNS: usize = 1000;

/// Limit of clients that no scenario reaches.
const MAX_CLIENTS: u64 = 64;

/// Runs a scenario in many schedules, or in the one in the file that `PR_MODEL_REPLAY` names.
fn explore(scenario: fn()) {
    if let Ok(path) = env::var("PR_MODEL_REPLAY") {
        run(ReplayScheduler::new_from_file(path).unwrap(), scenario);
        return;
    }
    let schedules =
        env::var("PR_MODEL_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    run(RandomScheduler::new(schedules), scenario);
    run(PctScheduler::new(PCT_DEPTH, schedules), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.failure_persistence = FailurePersistence::File(Some(env::temp_dir()));
    Runner::new(scheduler, config).run(scenario)
}

fn join(clients: Vec<JoinHandle<()>>) {
    for client in clients {
        client.join().unwrap();
    }
}

/// Resources of a server.
#[derive(Debug, PartialEq, Eq)]
struct ResourceCounts {
    threads: usize,
    idle_threads: usize,
    open_connections: usize,
    table_entries: usize,
    permits: usize,
    deferred: usize,
}

impl ResourceCounts {
    const QUIESCENT: Self = Self {
        threads: 1,
        idle_threads: 1,
        open_connections: 0,
        table_entries: 0,
        permits: 0,
        deferred: 0,
    };
}

impl Harness {
    /// Waits for `clients`, then asserts that the server has nothing left but one idle thread.
    fn finish(self, clients: Vec<JoinHandle<()>>) {
        join(clients);
        let server = self.server;
        server.epoll.expire_idle();
        for turns_left in (0..MAX_TURNS).rev() {
            let found = ResourceCounts {
                threads: thread_count(),
                idle_threads: server.epoll.idle_count(),
                open_connections: server.epoll.open_count(),
                table_entries: lock(&server.connections).len(),
                permits: server.acceptor.permits.total(),
                deferred: server.deferred.len(),
            };
            if found == ResourceCounts::QUIESCENT {
                break;
            }
            assert!(turns_left > 0, "{found:?}");
            yield_now();
        }
        assert_eq!(server.serving.load(Ordering::SeqCst), 0);
        server.epoll.stop();
        while thread_count() > 0 {
            yield_now();
        }
        assert!(Arc::into_inner(server).is_some());
    }
}

#[test]
fn every_client_is_served() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let clients = harness.spawn([1, 2, 3], |harness, length| {
            let mut client = harness.client();
            for _ in 0..2 {
                assert_eq!(client.request(READ_KEYS, length), Status::GOOD);
            }
        });
        harness.finish(clients);
    });
}

#[test]
fn hung_commands_delay_no_other_client() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let hanging = harness.spawn([1, 2], |harness, length| {
            assert_eq!(harness.client().request(HANGING, length), Status::GOOD);
        });
        let served = harness.spawn([()], |harness, ()| {
            let mut client = harness.client();
            assert_eq!(client.request(READ_KEYS, 3), Status::GOOD);
            harness.device.wait_until_hanging(2);
            assert_eq!(client.request(READ_KEYS, 4), Status::GOOD);
            drop(client);
            assert_eq!(harness.client().request(READ_KEYS, 5), Status::GOOD);
        });
        join(served);
        harness.device.release_all();
        harness.finish(hanging);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let clients = harness.spawn([(), ()], |harness, ()| {
            let mut client = harness.client();
            let lengths = [8192, 1, 8191, 2];
            for length in lengths {
                client.send(READ_KEYS, length);
            }
            for length in lengths {
                let reply = client.receive_reply().unwrap();
                assert_eq!(reply.status, Status::GOOD);
                assert_eq!(reply.data_len, usize::from(length));
            }
        });
        harness.finish(clients);
    });
}

#[test]
fn clients_can_disconnect_at_any_moment() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let clients = harness.spawn([(), (), ()], |harness, ()| {
            let mut client = harness.connect();
            for step in 0..thread_rng().gen_range(0..5) {
                match step {
                    0 => assert!(client.receive_greeting()),
                    1 => client.send_features(),
                    2 => client.send(READ_KEYS, 8192),
                    _ => drop(client.send_part(READ_KEYS, 1)),
                }
            }
        });
        assert_eq!(harness.client().request(READ_KEYS, 1), Status::GOOD);
        harness.finish(clients);
    });
}

#[test]
fn partial_request_times_out() {
    explore(|| {
        let harness = Harness::start_with_zero_timeout(MAX_CLIENTS);
        let clients = harness.spawn([true, false, false], |harness, is_partial| {
            let mut client = harness.connect();
            if client.receive_greeting() {
                client.send_features();
                // The first part can be all of it. Otherwise the rest is never sent.
                let rest = client.send_part(READ_KEYS, 1);
                if !is_partial {
                    client.send_rest(&rest);
                }
                // A client that owes nothing does not time out.
                if client.receive_reply().is_some() {
                    assert_eq!(client.request_unsplit(READ_KEYS, 2), Status::GOOD);
                }
            }
        });
        harness.finish(clients);
    });
}

#[test]
fn waiting_clients_are_accepted_after_disconnects() {
    explore(|| {
        let harness = Harness::start(1);
        let clients = harness.spawn([1, 2, 3], |harness, length| {
            assert_eq!(harness.client().request(READ_KEYS, length), Status::GOOD);
        });
        harness.finish(clients);
    });
}

#[test]
fn spawn_failure_blocks_no_worker() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let mut old = harness.client();
        let hanging = [1, 2].map(|length| (harness.client(), length));
        let hanging = harness.spawn(hanging, |_, (mut client, length)| {
            while client.request(HANGING, length) == Status::BUSY {
                yield_now();
            }
        });
        fail_spawn(SpawnFailure::Always);
        let new = harness.spawn([()], |harness, ()| {
            harness.client().request_good_or_busy(READ_KEYS, 4);
        });
        old.request_good_or_busy(READ_KEYS, 5);
        // Not read before the descriptor of the first request is closed, which takes a thread.
        old.send(READ_KEYS, 6);
        fail_spawn(SpawnFailure::Never);
        let status = old.receive_reply().unwrap().status;
        assert!([Status::GOOD, Status::BUSY].contains(&status));
        while old.request(READ_KEYS, 7) == Status::BUSY {
            yield_now();
        }
        join(new);
        harness.device.release_all();
        drop(old);
        harness.finish(hanging);
    });
}

#[test]
fn deferred_closes_run_without_events() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let mut client = harness.client();
        fail_spawn(SpawnFailure::Always);
        client.request(READ_KEYS, 1);
        drop(client);
        fail_spawn(SpawnFailure::Never);
        harness.finish(Vec::new());
    });
}

#[test]
fn random_spawn_failures_lose_no_reply() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        fail_spawn(SpawnFailure::Sometimes);
        let actions = [HANGING, READ_KEYS, READ_KEYS];
        let mut clients = harness.spawn(actions, |harness, action| {
            let mut client = harness.client();
            for length in [1, 2] {
                client.request_good_or_busy(action, length);
            }
        });
        join(clients.split_off(1));
        fail_spawn(SpawnFailure::Never);
        harness.device.release_all();
        harness.finish(clients);
    });
}

#[test]
fn command_sent_before_shutdown_completes_or_never_starts() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let mut client = harness.client();
        client.send(READ_KEYS, 1);
        assert_eq!(harness.server.shutdown(LONG_TIMEOUT), 0);
        harness.device.close();
        client.receive_reply();
        drop(client);
        harness.finish(Vec::new());
    });
}

#[test]
fn request_started_before_shutdown_is_completed() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let clients = [(); 2].map(|()| {
            let client = harness.client();
            let rest = client.send_part(READ_KEYS, 1);
            (client, rest)
        });
        let clients = harness.spawn(clients, |_, (mut client, rest)| {
            yield_now();
            client.send_rest(&rest);
            assert_eq!(client.receive_reply().unwrap().status, Status::GOOD);
            // The connection ends between two requests.
            assert_eq!(client.receive_reply(), None);
        });
        assert_eq!(harness.server.shutdown(LONG_TIMEOUT), 0);
        harness.device.close();
        harness.finish(clients);
    });
}

#[test]
fn shutdown_waits_for_commands_and_starts_none() {
    explore(|| {
        let harness = Harness::start(MAX_CLIENTS);
        let clients = [HANGING, READ_KEYS, READ_KEYS].map(|action| (harness.client(), action));
        let mut clients = harness.spawn(clients, |_, (mut client, action)| {
            for length in 1..4 {
                client.send(action, length);
                match client.receive_reply() {
                    Some(reply) => assert_eq!(reply.status, Status::GOOD),
                    None => break,
                }
            }
        });
        clients.extend(harness.spawn([()], |harness, ()| harness.device.release_all()));
        assert_eq!(harness.server.shutdown(LONG_TIMEOUT), 0);
        harness.device.close();
        harness.finish(clients);
    });
}
