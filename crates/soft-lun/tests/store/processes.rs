//! Several at once: no command is lost, and none sees half of another.

use std::thread;

use crate::support::{Scratch, name, read_keys, register};

/// The lock is one of open files, so threads that each open their own are to each other what
/// processes are.
#[test]
fn every_command_counts() {
    const EACH: u64 = 100;
    let scratch = Scratch::new();
    thread::scope(|scope| {
        for port in ["a", "b", "a", "b"] {
            let lun = soft_lun::store::Lun::open(scratch.lun.path()).unwrap();
            scope.spawn(move || {
                for key in 1..=EACH {
                    let (cdb, list) = register(key, false);
                    lun.execute(&name(port), &cdb, &list).unwrap();
                }
            });
        }
        // Who only looks takes no lock, and always sees a whole state.
        scope.spawn(|| {
            for _ in 0..EACH {
                scratch.lun.load().unwrap();
            }
        });
    });
    assert_eq!(
        u64::from(scratch.lun.load().unwrap().generation().get()),
        4 * EACH
    );
    scratch.good("a", &read_keys());
}
