// SPDX-License-Identifier: MIT OR Apache-2.0

//! Concurrent commands: none is lost, and none sees an incomplete state.

use std::thread;

use pr_testkit::cdb::read_keys;

use crate::support::{Fixture, name, register};

/// Each thread opens the lock file itself. Because flock locks belong to an open file description,
/// the threads exclude each other like processes.
#[test]
fn concurrent_commands_are_all_counted() {
    const COMMANDS_PER_THREAD: u64 = 100;
    let fixture = Fixture::new();
    thread::scope(|scope| {
        for port in ["a", "b", "a", "b"] {
            let lun = soft_lun::store::Lun::open(fixture.lun.path()).unwrap();
            scope.spawn(move || {
                for key in 1..=COMMANDS_PER_THREAD {
                    let command = register(key, false);
                    let (cdb, list) = (&command.cdb, &command.parameter_list);
                    lun.execute(&name(port), cdb, list).unwrap();
                }
            });
        }
        // `load` takes no lock, and must always see a complete state.
        scope.spawn(|| {
            for _ in 0..COMMANDS_PER_THREAD {
                fixture.lun.load().unwrap();
            }
        });
    });
    assert_eq!(
        u64::from(fixture.lun.load().unwrap().generation().get()),
        4 * COMMANDS_PER_THREAD
    );
    fixture.expect_good("a", &read_keys(255));
}
