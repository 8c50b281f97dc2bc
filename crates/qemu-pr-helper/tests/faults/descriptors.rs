//! A helper that may have no more descriptors, while it runs: what is lower than its limit of clients has foreseen.

use std::time::Duration;

use rustix::process::Resource;
use scsi_pr::Status;

use crate::Test;
use crate::client::{Client, READ_KEYS, REGISTER, null};
use crate::helper::Helper;

pub(crate) const TESTS: &[Test] = &[("without_any_all_are_busy", without_any_all_are_busy)];

/// The standard streams have those that there can be.
const NONE: u64 = 3;
const MANY: u64 = 500;

fn without_any_all_are_busy() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut present = helper.client();
    helper.limit(Resource::Nofile, NONE);
    for _ in 0..100 {
        for cdb in [READ_KEYS, REGISTER] {
            assert_eq!(present.try_ask(cdb, &null()).unwrap(), Status::BUSY);
        }
    }
    helper.says("command answered with BUSY: the kernel did not pass the device");
    let mut next = Client::connect(&helper.socket());
    next.hears_nothing_for(Duration::from_secs(2));
    helper.says("accepting connections paused: Too many open files");
    helper.does_not_spin();

    helper.limit(Resource::Nofile, MANY);
    present.is_served();
    let mut next = next.greeted();
    next.is_served();
    drop((present, next));
    helper.is_at_rest_as(&before);
}
