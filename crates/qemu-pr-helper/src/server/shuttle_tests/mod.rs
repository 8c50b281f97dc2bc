//! The engine's threads in every order that a scheduler comes upon: what has to hold in each.
//!
//! The engine is the real one, and so are its connections. What is exchanged is underneath: locks and threads
//! (`sync`), which run one at a time, in an order that [shuttle](https://docs.rs/shuttle) chooses, and the epoll
//! set (`poll.rs`). A run in which everybody waits is a failure, and so is one without an end.

#![expect(
    clippy::unwrap_used,
    reason = "what a model cannot do without fails it"
)]
#![expect(clippy::indexing_slicing, reason = "as above")]

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
use shuttle::thread::{JoinHandle, spawn, yield_now};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::sync::atomic::Ordering;
use super::sync::lock;
use client::Running;
use device::{HANGING, READ_KEYS};
use sync::thread::{Refused, present, refuse};

/// How many schedules each scheduler tries for each scenario, unless `PR_MODEL_SCHEDULES` says.
const SCHEDULES: usize = 200;

/// So many times in a schedule of the second scheduler a thread gets behind all others.
const CHANGES: usize = 4;

/// Longer than any test.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// How many turns all threads together may need in the end.
const PATIENCE: usize = 1000;

/// Room for as many clients as there are in any scenario.
const ROOM: u64 = 64;

/// Tries a scenario in many schedules, or in the one that is in the file of `PR_MODEL_REPLAY`.
fn explore(scenario: fn()) {
    if let Ok(path) = env::var("PR_MODEL_REPLAY") {
        run(ReplayScheduler::new_from_file(path).unwrap(), scenario);
        return;
    }
    let schedules =
        env::var("PR_MODEL_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    run(RandomScheduler::new(schedules), scenario);
    run(PctScheduler::new(CHANGES, schedules), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.failure_persistence = FailurePersistence::File(Some(env::temp_dir()));
    Runner::new(scheduler, config).run(scenario)
}

/// What there is in the end.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    threads: usize,
    waiting: usize,
    /// Connections that are not closed.
    open: usize,
    /// Clients in the table.
    clients: usize,
    /// Connections that hold a permit.
    permits: usize,
    deferred: usize,
}

impl Remains {
    const SETTLED: Self = Self {
        threads: 1,
        waiting: 1,
        open: 0,
        clients: 0,
        permits: 0,
        deferred: 0,
    };
}

/// Does something with the engine in a thread of its own.
fn meanwhile<T: Send + 'static>(
    running: &Running,
    work: impl FnOnce(&Running) -> T + Send + 'static,
) -> JoinHandle<T> {
    let running = running.clone();
    spawn(move || work(&running))
}

/// After everybody has left and for a long time nobody came: nothing is left but a thread that waits.
fn settle(running: Running) {
    let engine = running.engine;
    engine.poll.calm();
    for left in (0..PATIENCE).rev() {
        let found = Remains {
            threads: present(),
            waiting: engine.poll.waiting(),
            open: engine.poll.open(),
            clients: lock(&engine.table).len(),
            permits: engine.permits.total(),
            deferred: engine.deferred.len(),
        };
        if found == Remains::SETTLED {
            break;
        }
        assert!(left > 0, "{found:?}");
        yield_now();
    }
    assert_eq!(engine.serving.load(Ordering::SeqCst), 0);
    engine.poll.end();
    while present() > 0 {
        yield_now();
    }
    assert!(Arc::into_inner(engine).is_some());
}

#[test]
fn everybody_is_served() {
    explore(|| {
        let running = Running::start(ROOM);
        let guests = [1, 2, 3].map(|length| {
            meanwhile(&running, move |running| {
                let mut guest = running.guest();
                for _ in 0..2 {
                    assert_eq!(guest.ask(READ_KEYS, length), Status::GOOD);
                }
                guest.leave();
            })
        });
        for guest in guests {
            guest.join().unwrap();
        }
        settle(running);
    });
}

#[test]
fn nobody_waits_for_commands_that_hang() {
    explore(|| {
        let running = Running::start(ROOM);
        let hanging = [1, 2].map(|length| {
            meanwhile(&running, move |running| {
                let mut guest = running.guest();
                assert_eq!(guest.ask(HANGING, length), Status::GOOD);
                guest.leave();
            })
        });
        let served = meanwhile(&running, |running| {
            let mut guest = running.guest();
            assert_eq!(guest.ask(READ_KEYS, 3), Status::GOOD);
            running.device.wait_until_hanging(2);
            assert_eq!(guest.ask(READ_KEYS, 4), Status::GOOD);
            guest.leave();
            let mut after = running.guest();
            assert_eq!(after.ask(READ_KEYS, 5), Status::GOOD);
            after.leave();
        });
        served.join().unwrap();
        running.device.let_go();
        for guest in hanging {
            guest.join().unwrap();
        }
        settle(running);
    });
}

#[test]
fn requests_sent_at_once_are_answered_in_their_order() {
    explore(|| {
        let running = Running::start(ROOM);
        let guests = [1, 2].map(|_| {
            meanwhile(&running, |running| {
                let mut guest = running.guest();
                let lengths = [8192, 1, 8191, 2];
                for length in lengths {
                    guest.send(READ_KEYS, length);
                }
                for length in lengths {
                    let answer = guest.answer().unwrap();
                    assert_eq!(answer.status, Status::GOOD);
                    assert_eq!(answer.length, usize::from(length));
                }
                guest.leave();
            })
        });
        for guest in guests {
            guest.join().unwrap();
        }
        settle(running);
    });
}

#[test]
fn clients_may_leave_at_any_moment() {
    explore(|| {
        let running = Running::start(ROOM);
        let leaving = [1, 2, 3].map(|_| {
            meanwhile(&running, |running| {
                let last = thread_rng().gen_range(0..5);
                let mut guest = running.arrive();
                for step in 0..last {
                    match step {
                        0 => assert!(guest.is_greeted()),
                        1 => guest.agree(),
                        2 => guest.send(READ_KEYS, 8192),
                        _ => drop(guest.begin(READ_KEYS, 1)),
                    }
                }
                guest.leave();
            })
        });
        let mut staying = running.guest();
        assert_eq!(staying.ask(READ_KEYS, 1), Status::GOOD);
        staying.leave();
        for guest in leaving {
            guest.join().unwrap();
        }
        settle(running);
    });
}

#[test]
fn whoever_dawdles_is_sent_away_and_what_was_in_time_is_answered() {
    explore(|| {
        let running = Running::start_impatient(ROOM);
        let guests = [true, false, false].map(|dawdles| {
            meanwhile(&running, move |running| {
                let mut guest = running.arrive();
                if guest.is_greeted() {
                    guest.agree();
                    // All of it may go in one piece; else the rest of it never does.
                    let rest = guest.begin(READ_KEYS, 1);
                    if !dawdles {
                        guest.finish(&rest);
                    }
                    // Who owes nothing is not sent away.
                    if guest.answer().is_some() {
                        assert_eq!(guest.ask_at_once(READ_KEYS, 2), Status::GOOD);
                    }
                }
                guest.leave();
            })
        });
        for guest in guests {
            guest.join().unwrap();
        }
        settle(running);
    });
}

#[test]
fn whoever_waits_at_the_door_is_let_in_when_others_leave() {
    explore(|| {
        let running = Running::start(1);
        let guests = [1, 2, 3].map(|length| {
            meanwhile(&running, move |running| {
                let mut guest = running.arrive();
                assert!(guest.is_greeted());
                guest.agree();
                assert_eq!(guest.ask(READ_KEYS, length), Status::GOOD);
                guest.leave();
            })
        });
        for guest in guests {
            guest.join().unwrap();
        }
        settle(running);
    });
}

#[test]
fn without_threads_nobody_blocks_and_with_them_all_is_well_again() {
    explore(|| {
        let running = Running::start(ROOM);
        let mut old = running.guest();
        let hanging = [1, 2].map(|length| {
            let mut guest = running.guest();
            meanwhile(&running, move |_| {
                while guest.ask(HANGING, length) == Status::BUSY {
                    yield_now();
                }
                guest.leave();
            })
        });
        refuse(Refused::Always);
        let new = meanwhile(&running, |running| {
            let mut guest = running.guest();
            let status = guest.ask(READ_KEYS, 4);
            guest.leave();
            status
        });
        let status = old.ask(READ_KEYS, 5);
        assert!([Status::GOOD, Status::BUSY].contains(&status));
        // Not read before the descriptor of the first request is closed, which takes a thread.
        old.send(READ_KEYS, 6);
        refuse(Refused::Never);
        let status = old.answer().unwrap().status;
        assert!([Status::GOOD, Status::BUSY].contains(&status));
        while old.ask(READ_KEYS, 7) == Status::BUSY {
            yield_now();
        }
        let status = new.join().unwrap();
        assert!([Status::GOOD, Status::BUSY].contains(&status));
        running.device.let_go();
        for guest in hanging {
            guest.join().unwrap();
        }
        old.leave();
        settle(running);
    });
}

#[test]
fn what_was_put_aside_is_closed_also_if_nobody_comes() {
    explore(|| {
        let running = Running::start(ROOM);
        let mut guest = running.guest();
        refuse(Refused::Always);
        guest.ask(READ_KEYS, 1);
        guest.leave();
        refuse(Refused::Never);
        settle(running);
    });
}

#[test]
fn a_thread_that_is_refused_now_and_then_costs_nobody_the_answer() {
    explore(|| {
        let running = Running::start(ROOM);
        refuse(Refused::Sometimes);
        let guests = [HANGING, READ_KEYS, READ_KEYS].map(|action| {
            meanwhile(&running, move |running| {
                let mut guest = running.guest();
                for length in [1, 2] {
                    let status = guest.ask(action, length);
                    assert!([Status::GOOD, Status::BUSY].contains(&status));
                }
                guest.leave();
            })
        });
        let [hanging, guests @ ..] = guests;
        for guest in guests {
            guest.join().unwrap();
        }
        refuse(Refused::Never);
        running.device.let_go();
        hanging.join().unwrap();
        settle(running);
    });
}

#[test]
fn a_command_that_comes_with_the_end_is_waited_for_or_does_not_begin() {
    explore(|| {
        let running = Running::start(ROOM);
        let mut guest = running.guest();
        guest.send(READ_KEYS, 1);
        assert_eq!(running.engine.stop(AN_HOUR), 0);
        running.device.close();
        guest.answer();
        guest.leave();
        settle(running);
    });
}

#[test]
fn an_end_waits_for_commands_and_lets_none_begin() {
    explore(|| {
        let running = Running::start(ROOM);
        let guests = [HANGING, READ_KEYS, READ_KEYS].map(|action| {
            let mut guest = running.guest();
            meanwhile(&running, move |_| {
                for length in 1..4 {
                    guest.send(action, length);
                    match guest.answer() {
                        Some(answer) => assert_eq!(answer.status, Status::GOOD),
                        None => break,
                    }
                }
                guest.leave();
            })
        });
        let letting_go = meanwhile(&running, |running| running.device.let_go());
        assert_eq!(running.engine.stop(AN_HOUR), 0);
        running.device.close();
        letting_go.join().unwrap();
        for guest in guests {
            guest.join().unwrap();
        }
        settle(running);
    });
}
