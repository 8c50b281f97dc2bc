// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that runs out of descriptors, because the limit is lowered after its start.

use std::time::Duration;

use pr_testkit::cdb::{read_keys, register};
use pr_testkit::client::null;
use rustix::process::Resource;
use scsi_pr::Status;

use crate::Test;
use crate::helper::Helper;

pub(crate) const TESTS: &[Test] = tests![command_without_descriptor_is_busy];

/// Limit that the standard streams use up.
const NO_SPARE_FDS: u64 = 3;
const MANY: u64 = 500;

fn command_without_descriptor_is_busy() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut present = helper.client();
    helper.limit(Resource::Nofile, NO_SPARE_FDS);
    for _ in 0..100 {
        for command in [read_keys(8), register(0, 0)] {
            assert_eq!(present.execute(&command, null()).status, Status::BUSY);
        }
    }
    helper.wait_for_log("command answered with BUSY: the kernel did not pass the device");
    let mut next = helper.connect();
    next.assert_silent_for(Duration::from_secs(2));
    helper.wait_for_log("accepting connections paused: Too many open files");
    helper.assert_low_cpu();

    helper.limit(Resource::Nofile, MANY);
    present.assert_served();
    let mut next = next.handshake();
    next.assert_served();
    drop((present, next));
    helper.assert_idle(&before);
}
