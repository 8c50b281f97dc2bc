// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl validate` with registrations that are not its own: of another disk that was given as the
//! second node, of another program that registers during the run, and those that the disk does not
//! remove.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use scsi_pr::{InServiceAction, OutServiceAction, Status};
use soft_lun::{LogicalUnit, Registration};

use crate::faulty_disk::{Exchange, Fault, FaultyDisk, status};
use crate::support::TestHelper;
use crate::validate::{expect_unchanged, steps};

/// Key of another program.
const OTHER_KEY: u64 = 0xb;

/// Registers the nexus of a port with the key of another program.
fn register_other(exchange: &mut Exchange<'_>, port: usize) {
    let registration = Registration {
        nexus: exchange.nexus(port),
        key: OTHER_KEY.into(),
        all_tg_pt: false,
    };
    exchange.edit(|state| {
        state
            .registrations
            .retain(|one| one.nexus != registration.nexus);
        state.registrations.push(registration);
    });
}

/// Port `b` leads to another disk, which another program registers with before the first READ KEYS
/// from command `number` on.
fn two_disks(number: usize) -> (FaultyDisk, Arc<Mutex<Option<LogicalUnit>>>) {
    let other = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&other);
    let mut is_registered = false;
    let disk = FaultyDisk::start(Box::new(move |exchange| {
        let mut other = shared.lock().unwrap();
        let other = other.get_or_insert_with(|| exchange.unit.clone());
        if exchange.port == 0 {
            return exchange.execute();
        }
        std::mem::swap(exchange.unit, other);
        let is_due = exchange.number >= number && exchange.is_in(InServiceAction::ReadKeys);
        if is_due && !std::mem::replace(&mut is_registered, true) {
            register_other(exchange, 1);
        }
        let response = exchange.execute();
        std::mem::swap(exchange.unit, other);
        response
    }));
    (disk, other)
}

#[track_caller]
fn expect_other_key(other: &Mutex<Option<LogicalUnit>>) {
    let other = other.lock().unwrap();
    let registrations = other.as_ref().unwrap().registrations();
    let keys: Vec<_> = registrations.iter().map(|one| one.key.get()).collect();
    assert_eq!(keys, [OTHER_KEY]);
}

#[test]
fn registration_of_another_disk_is_refused() {
    let (disk, other) = two_disks(0);
    let refused = "b: the disk has registrations: 0xb";
    disk.run("validate a b").expect_failure(1, &[refused]);
    expect_other_key(&other);
    let not_cleared = "b: CLEAR did not remove all registrations";
    disk.run("validate a b --force-key b")
        .expect_failure(1, &[not_cleared]);
    expect_other_key(&other);
}

#[test]
fn registration_of_another_disk_during_the_run_is_kept() {
    for number in [10, 20, 30, 40] {
        let (disk, other) = two_disks(number);
        let run = disk.run("--json validate a b");
        assert_eq!(run.status, 1, "{}", run.stderr);
        let fragment = "b: registered by another program during the run: 0xb";
        assert!(run.stderr.contains(fragment), "{}", run.stderr);
        assert!(!run.stderr.contains("may remain"), "{}", run.stderr);
        expect_other_key(&other);
        expect_unchanged(&disk);
    }
}

/// Another program registers through a nexus that is not of the run.
#[test]
fn registration_during_the_run_aborts_it_and_is_kept() {
    let healthy = FaultyDisk::healthy();
    assert_eq!(healthy.run("validate a").status, 0);
    let last = healthy.commands();
    let numbers: Vec<_> = (4..last - 4).step_by(last / 16).collect();
    assert!(numbers.len() > 10);
    for number in numbers {
        let mut is_registered = false;
        let disk = FaultyDisk::start(Box::new(move |exchange| {
            let is_due = exchange.number >= number && exchange.is_in(InServiceAction::ReadKeys);
            if is_due && !std::mem::replace(&mut is_registered, true) {
                register_other(exchange, 1);
            }
            exchange.execute()
        }));
        let run = disk.run("--json validate a");
        assert_eq!(run.status, 1, "{number}: {}", run.stderr);
        let fragment = "a: registered by another program during the run: 0xb";
        assert!(run.stderr.contains(fragment), "{number}: {}", run.stderr);
        let report = run.json();
        assert_eq!(report["success"], false);
        assert_eq!(steps(&report, "failed"), [""; 0], "{number}");
        let keys = disk.state().registrations;
        let keys: Vec<_> = keys.iter().map(|one| one.key.get()).collect();
        assert_eq!(keys, [OTHER_KEY], "{number}");
    }
}

#[test]
fn ports_of_different_soft_luns_are_refused() {
    let helper = TestHelper::start();
    let create = "lun create luns/other --port c=sas,5001405000000003@3";
    helper.run(create).success();
    helper
        .run("validate a luns/other/ports/c")
        .expect_failure(1, &["a and luns/other/ports/c are different disks"]);
}

/// Answers commands that would remove registrations with GOOD, from command `number` on, and does
/// not execute them.
fn kept_from(number: usize) -> Fault {
    Box::new(move |exchange| {
        let is_register = exchange.is_out(OutServiceAction::Register)
            || exchange.is_out(OutServiceAction::RegisterAndIgnoreExistingKey);
        let is_removal = exchange.is_out(OutServiceAction::Clear)
            || is_register && exchange.list.service_action_reservation_key.is_zero();
        match exchange.number >= number && is_removal {
            true => status(Status::GOOD),
            false => exchange.execute(),
        }
    })
}

const NOT_RESTORED: &str = "a: the disk did not remove the registrations of the run";

#[test]
fn registrations_that_remain_after_a_step_abort_the_run() {
    let run = FaultyDisk::start(kept_from(0)).run("--json validate a b");
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains(NOT_RESTORED), "{}", run.stderr);
    assert!(run.stderr.contains("may remain"), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["success"], false);
    assert_eq!(report["rows"].as_array().unwrap().len(), 4);
}

#[test]
fn registrations_that_remain_after_the_last_step_are_an_error() {
    const COMMAND: &str = "--json validate a b --profile fence_scsi";
    let last = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&last);
    let healthy = FaultyDisk::start(Box::new(move |exchange| {
        if exchange.is_out(OutServiceAction::PreemptAndAbort) {
            shared.store(exchange.number, Ordering::SeqCst);
        }
        exchange.execute()
    }));
    assert_eq!(healthy.run(COMMAND).status, 0);
    let run = FaultyDisk::start(kept_from(last.load(Ordering::SeqCst))).run(COMMAND);
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains(NOT_RESTORED), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["success"], false);
    assert_eq!(steps(&report, "failed"), [""; 0]);
    assert_eq!(steps(&report, "not tested"), ["fence-access"]);
}
